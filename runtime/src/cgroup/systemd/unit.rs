//! Names of systemd's units, and where systemd has their groups.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::annotations;
use super::wire::Value;
use crate::error::{Error, Result};

/// Field of a specification that names a group.
const FIELD: &str = "linux.cgroupsPath";

/// Longest name of a unit (systemd.unit(5)), in bytes.
const LONGEST: usize = 255;

/// A scope: a group that systemd makes, for processes that it hasn't started (systemd.scope(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) struct Scope {
    /// Its own name, with `.scope`.
    pub(in crate::cgroup) name: String,
    /// The slice that it lies in, with `.slice`.
    pub(super) slice: String,
    /// As it was given.
    text: String,
    /// What else it is asked to be.
    pub(super) extra: Vec<(String, Value)>,
}

impl Scope {
    /// Reads `slice:prefix:name`, of which slice and prefix may be empty. None: it is a path.
    pub(in crate::cgroup) fn parse(text: &str) -> Result<Option<Self>> {
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Ok(None);
        };
        if text.starts_with('/') {
            return Ok(None);
        }
        let slice = match slice {
            "" => "system.slice",
            slice => slice,
        };
        slice_path(slice).ok_or_else(|| invalid(text, "its first part is no slice"))?;
        if name.is_empty() || name.ends_with(".slice") || name.ends_with(".scope") {
            return Err(invalid(text, "its last part names no scope"));
        }
        let name = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        match is_unit(&name) && is_unit(slice) {
            true => Ok(Some(Self {
                name,
                slice: slice.to_owned(),
                text: text.to_owned(),
                extra: Vec::new(),
            })),
            false => Err(invalid(text, "systemd has no such names")),
        }
    }

    /// With the properties that are asked for by annotations.
    pub(in crate::cgroup) fn annotated(&mut self, annotations: &HashMap<String, String>) -> Result<()> {
        self.extra = annotations::properties(annotations)?;
        Ok(())
    }

    /// As it was given.
    pub(in crate::cgroup) fn text(&self) -> &str {
        &self.text
    }

    /// Its group, relative to the hierarchies' roots.
    pub(in crate::cgroup) fn path(&self) -> PathBuf {
        slice_path(&self.slice).unwrap_or_default().join(&self.name)
    }
}

/// Where systemd has a slice: dashes in its name separate the slices that it lies in, so that `a-b.slice` is
/// `a.slice/a-b.slice`; `-.slice` is the root (systemd.slice(5)). None: it is none.
pub(super) fn slice_path(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    if stem.split('-').any(str::is_empty) || stem.contains('/') {
        return None;
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Some(ends.map(|end| format!("{}.slice", &stem[..end])).collect())
}

/// The slice whose group is at `path`, if that is where systemd would have it.
pub(in crate::cgroup) fn slice_at(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    (is_unit(name) && slice_path(name)? == path).then_some(name)
}

fn is_unit(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    name.len() <= LONGEST && name.chars().all(allowed)
}

fn invalid(text: &str, why: &str) -> Error {
    Error::invalid(FIELD, format!("{text:?} is no slice:prefix:name: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_lie_in_nested_slices() {
        let scope = Scope::parse("kubepods-burstable-pod1_2.slice:pintle:abc")
            .unwrap()
            .unwrap();
        assert_eq!(scope.name, "pintle-abc.scope");
        assert_eq!(
            scope.path(),
            Path::new(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/pintle-abc.scope"
            )
        );
        let path = |text| Scope::parse(text).unwrap().unwrap().path();
        assert_eq!(path(":p:n"), Path::new("system.slice/p-n.scope"));
        assert_eq!(path("-.slice::n"), Path::new("n.scope"));
        assert_eq!(path("a.slice:p:n"), Path::new("a.slice/p-n.scope"));
    }

    #[test]
    fn paths_are_no_scopes() {
        for text in ["/a/b", "a", "/a:b:c", "a:b", "a:b:c:d", ""] {
            assert_eq!(Scope::parse(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let bad = [
            "a:b:c",
            "a.slice:b:",
            "-a.slice:b:c",
            "a--b.slice:b:c",
            "a-.slice:b:c",
            "../a.slice:b:c",
            "a/b.slice:b:c",
            ".slice:b:c",
            "a.slice:b:c/../d",
            "a.slice:b/..:c",
            "a.slice:b:c.slice",
            "a.slice:b:c d",
            "a.slice:b:c\0",
        ];
        for text in bad {
            let error = Scope::parse(text).unwrap_err().to_string();
            assert!(error.contains("slice:prefix:name"), "{error}");
        }
        assert!(Scope::parse(&format!("a.slice:b:{}", "c".repeat(250))).is_err());
    }

    #[test]
    fn slices_are_found_by_their_place() {
        assert_eq!(slice_at(Path::new("a.slice/a-b.slice")), Some("a-b.slice"));
        assert_eq!(slice_at(Path::new("a-b.slice")), None);
        assert_eq!(slice_at(Path::new("x/a.slice")), None);
        assert_eq!(slice_at(Path::new("a.slice/b")), None);
    }
}
