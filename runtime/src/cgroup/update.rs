//! Changing the limits of a group that lives: all of them, or none.
//!
//! What the files said before is noted, and written back if one of them refuses. Files that hold one another's bounds
//! (a limit of memory and one of memory with swap) may refuse in one order and not in another, so that the way back
//! is gone twice.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::{Manager, file};
use crate::error::{Error, Result};

/// Rounds of writing back.
const ROUNDS: u32 = 2;

/// A control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// The group's folder in one hierarchy.
    pub folder: PathBuf,
    /// Its name there, as `cpu.max`.
    pub name: String,
}

impl ControlFile {
    pub(super) fn new(folder: &Path, name: impl Into<String>) -> Self {
        Self {
            folder: folder.to_owned(),
            name: name.into(),
        }
    }
}

/// Applies limits; a failure leaves those that were. Where `tell` has told another who writes them, too, less exactly,
/// they are applied once more.
pub(super) fn update(
    manager: &dyn Manager,
    path: &Path,
    resources: &LinuxResources,
    tell: impl FnOnce() -> Result<bool>,
) -> Result<Vec<String>> {
    let before = values(manager.control_files(path, resources));
    manager.make_room(path, resources)?;
    manager
        .apply(path, resources)
        .and_then(|warnings| match tell()? {
            true => manager.apply(path, resources),
            false => Ok(warnings),
        })
        .map_err(|cause| match put_back(before) {
            left if left.is_empty() => cause,
            left => Error::HalfDone {
                cause: Box::new(cause),
                left,
            },
        })
}

/// What the files say. One that doesn't exist can't be changed either.
fn values(files: Vec<ControlFile>) -> Vec<(ControlFile, String)> {
    let value = |control: ControlFile| {
        let value = file::read(&control.folder, &control.name).ok()?;
        Some((control, value))
    };
    files.into_iter().filter_map(value).collect()
}

/// Writes the values back, and names the files that still say something else.
fn put_back(mut values: Vec<(ControlFile, String)>) -> Vec<PathBuf> {
    for _ in 0..ROUNDS {
        values.reverse();
        values.retain(|(control, value)| {
            file::read(&control.folder, &control.name).is_ok_and(|now| now != *value)
                && write(control, value).is_err()
        });
    }
    values
        .into_iter()
        .map(|(control, _)| control.folder.join(control.name))
        .collect()
}

fn write(control: &ControlFile, value: &str) -> Result<()> {
    let lines: Vec<String> = match value {
        // an empty write(2) says nothing; an empty line empties the file
        "" => vec!["\n".to_owned()],
        value => value.lines().map(str::to_owned).collect(),
    };
    file::write_each(&control.folder, &control.name, &lines)
}

/// The files of the given names.
pub(super) fn control_files<'a>(
    folder: &'a Path,
    names: &'a [&'a str],
) -> impl Iterator<Item = ControlFile> + 'a {
    names.iter().map(|name| ControlFile::new(folder, *name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_changed_is_written_back() {
        let tmp = tempfile::tempdir().unwrap();
        let path = |name: &str| tmp.path().join(name);
        fs::write(path("a"), "1\n").unwrap();
        fs::write(path("b"), "2\n").unwrap();
        let names = ["a", "b", "absent"];
        let before = values(control_files(tmp.path(), &names).collect());
        assert_eq!(before.len(), 2);
        fs::write(path("a"), "9").unwrap();
        assert!(put_back(before.clone()).is_empty());
        assert_eq!(fs::read_to_string(path("a")).unwrap().trim(), "1");

        fs::remove_file(path("b")).unwrap();
        assert!(
            put_back(before).is_empty(),
            "what is gone has no value to go back to"
        );
    }
}
