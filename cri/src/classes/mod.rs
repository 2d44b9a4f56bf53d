//! Classes of block I/O and of cache and memory bandwidth (RDT), which pods choose by annotation.
//!
//! ```text
//! blockio.rs  limits of block devices, which become part of a container's spec
//! rdt/        groups of the kernel's resctrl file system, made when the daemon starts; a spec has a group's name
//! ```
//!
//! Both are described by files in goresctrl's form, as other runtimes have them.

mod blockio;
mod rdt;

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{LinuxIntelRdt, Spec};

use crate::error::{Error, Result};

pub use rdt::Rdt;

/// A kind of class, and by which annotations it is chosen.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// On the container itself.
    own: &'static str,
    /// On the pod, before `pod` or `container.NAME`.
    of_pod: &'static str,
}

const BLOCK_IO: Kind = Kind {
    own: "io.kubernetes.cri.blockio-class",
    of_pod: "blockio.resources.beta.kubernetes.io",
};
const RDT: Kind = Kind {
    own: "io.kubernetes.cri.rdt-class",
    of_pod: "rdt.resources.beta.kubernetes.io",
};

type Annotations = BTreeMap<String, String>;

/// Whose annotation has chosen a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Container,
    Pod,
}

impl Kind {
    /// The class that a container is to have; the nearest word counts.
    fn chosen<'a>(self, name: &str, own: &'a Annotations, pod: &'a Annotations) -> Option<(&'a str, Origin)> {
        let of_pod = pod
            .get(&format!("{}/container.{name}", self.of_pod))
            .or_else(|| pod.get(&format!("{}/pod", self.of_pod)));
        own.get(self.own)
            .map(|class| (class, Origin::Container))
            .or(of_pod.map(|class| (class, Origin::Pod)))
            .map(|(class, origin)| (class.as_str(), origin))
            .filter(|(class, _)| !class.is_empty())
    }
}

/// Gives `spec` what its container's classes say; `file` has those of block I/O. Blocking.
///
/// # Errors
/// A class that isn't there, or isn't to be had by annotation.
pub fn apply(
    file: Option<&Path>,
    rdt: &Rdt,
    spec: &mut Spec,
    container: &str,
    own: &Annotations,
    pod: &Annotations,
) -> Result<()> {
    if let Some((class, _)) = BLOCK_IO.chosen(container, own, pod) {
        apply_block_io(file, spec, class)?;
    }
    if let Some((class, origin)) = RDT.chosen(container, own, pod)
        && let Some(group) = rdt.group(class, origin)?
    {
        let mut made = LinuxIntelRdt::default();
        made.set_clos_id(Some(group));
        spec.linux_mut().get_or_insert_default().set_intel_rdt(Some(made));
    }
    Ok(())
}

/// Gives `spec` the limits of a class of block I/O. Blocking.
///
/// # Errors
/// A class that isn't there.
pub fn apply_block_io(file: Option<&Path>, spec: &mut Spec, class: &str) -> Result<()> {
    let file = file.ok_or_else(|| {
        let setting = blockio::SETTING;
        Error::invalid(
            BLOCK_IO.own,
            format!("{class:?}: {setting} names no file with classes"),
        )
    })?;
    let limits = blockio::block_io(file, class)?;
    let linux = spec.linux_mut().get_or_insert_default();
    linux
        .resources_mut()
        .get_or_insert_default()
        .set_block_io(Some(limits));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> Annotations {
        entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn the_nearest_annotation_counts() {
        let pod = map(&[
            ("blockio.resources.beta.kubernetes.io/pod", "all"),
            ("blockio.resources.beta.kubernetes.io/container.web", "one"),
        ]);
        let own = map(&[("io.kubernetes.cri.blockio-class", "own")]);
        assert_eq!(
            BLOCK_IO.chosen("web", &own, &pod),
            Some(("own", Origin::Container))
        );
        assert_eq!(
            BLOCK_IO.chosen("web", &map(&[]), &pod),
            Some(("one", Origin::Pod))
        );
        assert_eq!(BLOCK_IO.chosen("db", &map(&[]), &pod), Some(("all", Origin::Pod)));
        assert_eq!(RDT.chosen("db", &map(&[]), &pod), None);
    }
}
