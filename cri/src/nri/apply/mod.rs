//! What plugins want, carried out on a container's runtime spec. Pure functions; whatever can't be is refused here.

mod limits;
mod linux;
mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime as oci;

pub(super) use limits::overlay;

use super::NriError;
use super::adjust::owners::unmarked;
use crate::proto::nri::{ContainerAdjustment, Hook, Hooks, Mount};
use crate::spec::ContainerSpec;

/// What is left to do for somebody who may look things up.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rest {
    /// Full names of CDI devices to inject.
    pub(crate) cdi_devices: Vec<String>,
    /// The class of block I/O to resolve; empty for none.
    pub(crate) blockio_class: Option<String>,
}

/// Carries out an adjustment. The id is the container's.
///
/// # Errors
/// [`NriError::Adjustment`] names the field and the value.
pub(super) fn apply(
    made: &mut ContainerSpec,
    id: &str,
    adjust: ContainerAdjustment,
) -> Result<Rest, NriError> {
    annotations(&mut made.spec, adjust.annotations)?;
    mounts(&mut made.spec, adjust.mounts)?;
    hooks(&mut made.spec, adjust.hooks)?;
    process::env(&mut made.spec, adjust.env)?;
    process::args(&mut made.spec, adjust.args);
    process::rlimits(&mut made.spec, adjust.rlimits)?;
    let mut rest = Rest {
        cdi_devices: adjust.cdi_devices.into_iter().map(|device| device.name).collect(),
        blockio_class: None,
    };
    if let Some(wanted) = adjust.linux {
        rest.blockio_class = wanted
            .resources
            .as_ref()
            .and_then(|limits| limits.blockio_class.clone())
            .map(|class| class.value);
        linux::apply(made, id, wanted)?;
    }
    Ok(rest)
}

/// Keys set and keys taken away, in any map of the spec.
fn merge_map(
    field: &'static str,
    wanted: BTreeMap<String, String>,
    map: &mut std::collections::HashMap<String, String>,
) -> Result<(), NriError> {
    for (key, value) in wanted {
        match unmarked(&key) {
            ("", _) => return Err(NriError::adjustment(field, "a key is empty")),
            (key, true) => drop(map.remove(key)),
            (_, false) => drop(map.insert(key, value)),
        }
    }
    Ok(())
}

fn annotations(spec: &mut oci::Spec, wanted: BTreeMap<String, String>) -> Result<(), NriError> {
    if wanted.is_empty() {
        return Ok(());
    }
    merge_map(
        "annotations",
        wanted,
        spec.annotations_mut().get_or_insert_default(),
    )
}

/// Mounts go by their depth afterwards, so that none hides another below it; those of the same depth keep their order.
fn mounts(spec: &mut oci::Spec, wanted: Vec<Mount>) -> Result<(), NriError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let all = spec.mounts_mut().get_or_insert_default();
    let mut propagation = None;
    for mount in wanted {
        let (destination, is_removal) = unmarked(&mount.destination);
        let destination = absolute("mounts.destination", destination)?;
        all.retain(|other| *other.destination() != destination);
        if is_removal {
            continue;
        }
        propagation = stronger(propagation, &mount.options);
        let mut made = oci::Mount::default();
        made.set_destination(destination)
            .set_typ(Some(mount.r#type).filter(|kind| !kind.is_empty()))
            .set_source(Some(PathBuf::from(mount.source)).filter(|source| !source.as_os_str().is_empty()))
            .set_options(Some(mount.options));
        all.push(made);
    }
    all.sort_by_key(|mount| mount.destination().components().count());
    if let (Some(wanted), Some(linux)) = (propagation, spec.linux_mut().as_mut()) {
        let now = linux.rootfs_propagation().as_deref();
        if !matches!((now, wanted), (Some("rshared"), _) | (Some("rslave"), "rslave")) {
            linux.set_rootfs_propagation(Some(wanted.to_owned()));
        }
    }
    Ok(())
}

/// What the root must let through for a mount of these options.
fn stronger(before: Option<&'static str>, options: &[String]) -> Option<&'static str> {
    let has = |word: &str| options.iter().any(|option| option == word);
    if has("rshared") || before == Some("rshared") {
        Some("rshared")
    } else if has("rslave") {
        Some("rslave")
    } else {
        before
    }
}

fn hooks(spec: &mut oci::Spec, wanted: Option<Hooks>) -> Result<(), NriError> {
    let Some(wanted) = wanted.filter(|hooks| *hooks != Hooks::default()) else {
        return Ok(());
    };
    let hooks = spec.hooks_mut().get_or_insert_default();
    add_hooks(hooks.prestart_mut(), wanted.prestart)?;
    add_hooks(hooks.create_runtime_mut(), wanted.create_runtime)?;
    add_hooks(hooks.create_container_mut(), wanted.create_container)?;
    add_hooks(hooks.start_container_mut(), wanted.start_container)?;
    add_hooks(hooks.poststart_mut(), wanted.poststart)?;
    add_hooks(hooks.poststop_mut(), wanted.poststop)
}

fn add_hooks(list: &mut Option<Vec<oci::Hook>>, new: Vec<Hook>) -> Result<(), NriError> {
    for hook in new {
        let mut made = oci::Hook::default();
        made.set_path(absolute("hooks.path", &hook.path)?)
            .set_args(Some(hook.args).filter(|args| !args.is_empty()))
            .set_env(Some(hook.env).filter(|env| !env.is_empty()))
            .set_timeout(hook.timeout.map(|timeout| timeout.value));
        list.get_or_insert_default().push(made);
    }
    Ok(())
}

/// A path from the root, without steps back.
fn absolute(field: &'static str, path: &str) -> Result<PathBuf, NriError> {
    let as_path = Path::new(path);
    let steps_back = as_path.components().any(|part| part == Component::ParentDir);
    if as_path.is_absolute() && !steps_back && !path.contains('\0') {
        Ok(as_path.to_owned())
    } else {
        Err(NriError::adjustment(
            field,
            format!("{path:?} is not an absolute path"),
        ))
    }
}
