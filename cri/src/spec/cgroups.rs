//! Where the cgroups of a sandbox and of its containers lie.

use super::SpecError;
use crate::proto::CgroupDriver;

/// Begins the names of systemd scopes, so that an administrator knows whose they are, unless another prefix is wanted.
const SCOPE_PREFIX: &str = "pintle";

/// A place in the cgroup tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Below the root of each hierarchy; its name ends with the id.
    pub path: String,
    /// For the runtime spec: the path, or `slice:prefix:name` with the systemd driver.
    pub oci: String,
}

/// The cgroup that a sandbox's containers lie in: what its config names (`asked`), else one below `default`, which is for
/// all such sandboxes; systemd's slices are shared by them.
///
/// # Errors
/// It leads elsewhere, or is no slice with the systemd driver.
pub fn sandbox_parent(
    asked: &str,
    default: &str,
    id: &str,
    driver: CgroupDriver,
) -> Result<String, SpecError> {
    let parent = match (asked, driver) {
        ("", CgroupDriver::Cgroupfs) => format!("{default}/{id}"),
        ("", CgroupDriver::Systemd) if default.ends_with(".slice") => default.to_owned(),
        // The driver was found out after the default was chosen.
        ("", CgroupDriver::Systemd) => format!("{default}.slice"),
        _ => asked.to_owned(),
    };
    place(&parent, id, driver, "")?;
    Ok(parent)
}

/// The cgroup of container `id`, or of the first process of the sandbox `id`, under `parent`, which is a path in cgroupfs
/// syntax with either driver. Its name begins with `prefix`, unless that is empty.
///
/// # Errors
/// As [`sandbox_parent`].
pub fn place(parent: &str, id: &str, driver: CgroupDriver, prefix: &str) -> Result<Placement, SpecError> {
    let parts: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(bad) = parts
        .iter()
        .find(|part| matches!(**part, "." | "..") || part.contains('\0'))
    {
        return Err(SpecError::invalid(
            "cgroup_parent",
            parent,
            format!("{bad:?} is no cgroup"),
        ));
    }
    let parent = parts.iter().fold(String::new(), |path, part| path + "/" + part);
    match (driver, parts.last()) {
        (_, None) => Err(SpecError::invalid(
            "cgroup_parent",
            parent,
            "containers can't lie in the root",
        )),
        (CgroupDriver::Cgroupfs, Some(_)) => {
            let path = match prefix {
                "" => format!("{parent}/{id}"),
                prefix => format!("{parent}/{prefix}-{id}"),
            };
            Ok(Placement {
                oci: path.clone(),
                path,
            })
        }
        (CgroupDriver::Systemd, Some(slice)) if is_slice(slice) => {
            let prefix = if prefix.is_empty() { SCOPE_PREFIX } else { prefix };
            Ok(Placement {
                path: format!("{}/{prefix}-{id}.scope", slice_path(slice)),
                oci: format!("{slice}:{prefix}:{id}"),
            })
        }
        (CgroupDriver::Systemd, Some(_)) => Err(SpecError::invalid(
            "cgroup_parent",
            parent,
            "with the systemd driver it must end in .slice",
        )),
    }
}

/// Dashes in a slice's name separate the slices it lies in, none of which is without a name.
fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice")
        .is_some_and(|stem| stem.split('-').all(|part| !part.is_empty()))
}

/// Where systemd has a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn slice_path(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let dashes = stem.match_indices('-').map(|(at, _)| at);
    dashes.chain([stem.len()]).fold(String::new(), |path, end| {
        format!("{path}/{}.slice", &stem[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroupfs_takes_the_parent_as_it_is() {
        let placed = place("/kubepods/burstable/pod1/", "abc", CgroupDriver::Cgroupfs, "").unwrap();
        assert_eq!(placed.path, "/kubepods/burstable/pod1/abc");
        assert_eq!(placed.oci, placed.path);
        assert_eq!(place("a", "b", CgroupDriver::Cgroupfs, "").unwrap().path, "/a/b");
        assert_eq!(
            place("/a", "b", CgroupDriver::Cgroupfs, "crio").unwrap().path,
            "/a/crio-b"
        );
        assert_eq!(
            place("/a.slice", "b", CgroupDriver::Cgroupfs, "").unwrap().path,
            "/a.slice/b"
        );
    }

    #[test]
    fn systemd_has_scopes_in_slices() {
        let parent = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        let placed = place(parent, "abc", CgroupDriver::Systemd, "").unwrap();
        assert_eq!(placed.path, format!("{parent}/pintle-abc.scope"));
        assert_eq!(placed.oci, "kubepods-burstable-pod1_2.slice:pintle:abc");
        assert_eq!(
            place("/test.slice", "b", CgroupDriver::Systemd, "").unwrap().path,
            "/test.slice/pintle-b.scope"
        );
        let named = place("/test.slice", "b", CgroupDriver::Systemd, "crio").unwrap();
        assert_eq!(
            (named.path.as_str(), named.oci.as_str()),
            ("/test.slice/crio-b.scope", "test.slice:crio:b")
        );
    }

    #[test]
    fn a_sandbox_without_a_parent_gets_one() {
        let parent = |asked, default, driver| sandbox_parent(asked, default, "id", driver);
        assert_eq!(
            parent("", "/pintle", CgroupDriver::Cgroupfs).unwrap(),
            "/pintle/id"
        );
        assert_eq!(
            parent("", "/pintle.slice", CgroupDriver::Systemd).unwrap(),
            "/pintle.slice"
        );
        assert_eq!(
            parent("/kubepods/p", "/pintle", CgroupDriver::Cgroupfs).unwrap(),
            "/kubepods/p"
        );
        assert_eq!(
            parent("", "/pintle", CgroupDriver::Systemd).unwrap(),
            "/pintle.slice"
        );
        assert!(parent("/kubepods/p", "/pintle.slice", CgroupDriver::Systemd).is_err());
        assert!(parent("/kubepods/../..", "/pintle", CgroupDriver::Cgroupfs).is_err());
    }

    #[test]
    fn parents_that_lead_elsewhere_are_refused() {
        for parent in ["/a/../b", "/a/./b", "", "/", "/a\0"] {
            assert!(
                place(parent, "c", CgroupDriver::Cgroupfs, "").is_err(),
                "{parent}"
            );
        }
        for parent in ["/a", "/-.slice", "/a--b.slice", "/.slice"] {
            assert!(place(parent, "c", CgroupDriver::Systemd, "").is_err(), "{parent}");
        }
    }
}
