//! Where the cgroups of a sandbox and of its containers lie.

use super::SpecError;
use crate::proto::CgroupDriver;

/// The field of a sandbox's config.
const FIELD: &str = "cgroup_parent";

/// Ends the names of slices.
const SLICE: &str = ".slice";
/// Ends the names of scopes.
const SCOPE: &str = ".scope";

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

/// The cgroup that a sandbox's containers lie in: what its config names (`asked`), else one of its own below `default`.
///
/// # Errors
/// It leads elsewhere, or is of the other driver's form: the caller and this daemon don't agree on one.
pub fn sandbox_parent(
    asked: &str,
    default: &str,
    id: &str,
    driver: CgroupDriver,
) -> Result<String, SpecError> {
    let parent = match (asked, driver) {
        ("", CgroupDriver::Cgroupfs) => format!("{default}/{id}"),
        ("", CgroupDriver::Systemd) => {
            // Without its end where the driver was found out after the default was chosen.
            let stem = default.strip_suffix(".slice").unwrap_or(default);
            let stem = stem.rsplit('/').next().unwrap_or(stem);
            slice_path(&format!("{stem}-{id}.slice"))
        }
        _ => asked.to_owned(),
    };
    let why = match (driver, is_systemds(&parent)) {
        (CgroupDriver::Systemd, false) => "with the systemd driver it must end in .slice",
        (CgroupDriver::Cgroupfs, true) => "with the cgroupfs driver it can't be a slice of systemd's",
        (CgroupDriver::Systemd, true) | (CgroupDriver::Cgroupfs, false) => {
            return place(&parent, id, "").map(|_| parent);
        }
    };
    Err(SpecError::invalid(FIELD, parent, why))
}

/// The cgroup of container `id`, or of the first process of the sandbox `id`, under `parent`: a path in cgroupfs syntax
/// with either driver, of which the last part tells the one that the sandbox was made with. Its name begins with `prefix`,
/// unless that is empty.
///
/// # Errors
/// It leads elsewhere.
pub fn place(parent: &str, id: &str, prefix: &str) -> Result<Placement, SpecError> {
    let parts: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(bad) = parts
        .iter()
        .find(|part| matches!(**part, "." | "..") || part.contains('\0'))
    {
        return Err(SpecError::invalid(FIELD, parent, format!("{bad:?} is no cgroup")));
    }
    let parent = parts.iter().fold(String::new(), |path, part| path + "/" + part);
    match parts.last() {
        None => Err(SpecError::invalid(
            FIELD,
            parent,
            "containers can't lie in the root",
        )),
        Some(slice) if is_slice(slice) => {
            let prefix = if prefix.is_empty() { SCOPE_PREFIX } else { prefix };
            Ok(Placement {
                path: format!("{}/{prefix}-{id}{SCOPE}", slice_path(slice)),
                oci: format!("{slice}:{prefix}:{id}"),
            })
        }
        Some(slice) if slice.ends_with(SLICE) => Err(SpecError::invalid(
            FIELD,
            parent,
            "not the name of a slice: no part between its dashes may be empty",
        )),
        Some(_) => {
            let path = match prefix {
                "" => format!("{parent}/{id}"),
                // with either driver: kubelet looks for an id behind a dash only where the name ends so
                prefix => format!("{parent}/{prefix}-{id}{SCOPE}"),
            };
            Ok(Placement {
                oci: path.clone(),
                path,
            })
        }
    }
}

/// Whether systemd makes the cgroups under a parent that was found good.
pub fn is_systemds(parent: &str) -> bool {
    parent.trim_end_matches('/').ends_with(SLICE)
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
        let placed = place("/kubepods/burstable/pod1/", "abc", "").unwrap();
        assert_eq!(placed.path, "/kubepods/burstable/pod1/abc");
        assert_eq!(placed.oci, placed.path);
        assert_eq!(place("a", "b", "").unwrap().path, "/a/b");
        assert_eq!(place("a", "b", "crio").unwrap().path, "/a/crio-b.scope");
    }

    #[test]
    fn systemd_has_scopes_in_slices() {
        let parent = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        let placed = place(parent, "abc", "").unwrap();
        assert_eq!(placed.path, format!("{parent}/pintle-abc.scope"));
        assert_eq!(placed.oci, "kubepods-burstable-pod1_2.slice:pintle:abc");
        assert_eq!(
            place("/test.slice", "b", "").unwrap().path,
            "/test.slice/pintle-b.scope"
        );
        let named = place("/test.slice", "b", "crio").unwrap();
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
            parent("", "/a.slice/a-b.slice", CgroupDriver::Systemd).unwrap(),
            "/a.slice/a-b.slice/a-b-id.slice"
        );
        assert_eq!(
            parent("/kubepods/p", "/pintle", CgroupDriver::Cgroupfs).unwrap(),
            "/kubepods/p"
        );
        assert_eq!(
            parent("", "/pintle", CgroupDriver::Systemd).unwrap(),
            "/pintle.slice/pintle-id.slice"
        );
        assert!(parent("/kubepods/p", "/pintle.slice", CgroupDriver::Systemd).is_err());
        assert!(parent("/kubepods/../..", "/pintle", CgroupDriver::Cgroupfs).is_err());
    }

    #[test]
    fn parents_that_lead_elsewhere_are_refused() {
        for parent in [
            "/a/../b",
            "/a/./b",
            "",
            "/",
            "/a\0",
            "/-.slice",
            "/a--b.slice",
            "/.slice",
        ] {
            assert!(place(parent, "c", "").is_err(), "{parent}");
        }
    }

    #[test]
    fn the_other_drivers_form_is_refused_and_named() {
        let refused = |asked, driver| {
            sandbox_parent(asked, "/pintle", "id", driver)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("/kubepods/pod1", CgroupDriver::Systemd),
            "cgroup_parent \"/kubepods/pod1\": with the systemd driver it must end in .slice"
        );
        assert_eq!(
            refused("/kubepods.slice/kubepods-pod1.slice/", CgroupDriver::Cgroupfs),
            "cgroup_parent \"/kubepods.slice/kubepods-pod1.slice/\": with the cgroupfs driver it can't be a slice of systemd's"
        );
    }
}
