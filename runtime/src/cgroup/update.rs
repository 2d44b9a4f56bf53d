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

/// A change that was made.
#[derive(Debug)]
pub struct Change {
    /// What could not be done but may be done without, for the log.
    pub warnings: Vec<String>,
    before: Vec<(ControlFile, String)>,
}

/// Tells whoever else writes the files, too, and less exactly. Whether there is somebody.
pub(super) type Tell<'a> = &'a dyn Fn(&LinuxResources) -> Result<bool>;

/// Applies limits; a failure leaves those that were. Where another has been told they are applied once more.
pub(super) fn update(
    manager: &dyn Manager,
    path: &Path,
    resources: &LinuxResources,
    tell: Tell<'_>,
) -> Result<Change> {
    let before = values(manager.control_files(path, resources));
    manager.make_room(path, resources)?;
    let applied = manager
        .apply(path, resources)
        .and_then(|warnings| match tell(resources)? {
            true => manager.apply(path, resources),
            false => Ok(warnings),
        });
    match applied {
        Ok(warnings) => Ok(Change { warnings, before }),
        Err(cause) => Err(match put_back(before) {
            left if left.is_empty() => cause,
            left => Error::HalfDone {
                cause: Box::new(cause),
                left,
            },
        }),
    }
}

impl Change {
    pub(super) fn undo(self, tell: Tell<'_>) -> Result<()> {
        // the values that v2's files have are what `unified` takes
        let former = self
            .before
            .iter()
            .map(|(control, value)| (control.name.clone(), value.clone()));
        let mut resources = LinuxResources::default();
        resources.set_unified(Some(former.collect()));
        // written last, it is exact; a limit that the other has kept is one too many there, and not here
        let told = tell(&resources);
        match put_back(self.before) {
            left if left.is_empty() => told.map(drop),
            left => Err(Error::NotUndone(left)),
        }
    }
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

        let told = std::cell::RefCell::new(None);
        let tell = |resources: &LinuxResources| {
            *told.borrow_mut() = resources.unified().clone();
            Ok(true)
        };
        fs::write(path("b"), "8").unwrap();
        let change = Change {
            warnings: Vec::new(),
            before: before.clone(),
        };
        change.undo(&tell).unwrap();
        assert_eq!(fs::read_to_string(path("b")).unwrap().trim(), "2");
        assert_eq!(told.take().unwrap()["a"], "1");

        fs::remove_file(path("b")).unwrap();
        assert!(
            put_back(before).is_empty(),
            "what is gone has no value to go back to"
        );
    }
}
