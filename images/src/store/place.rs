//! Folders for writable layers outside of the store, on another disk for instance.
//!
//! ```text
//! <place>/lock              held by the one store that uses the folder
//! <place>/<container>/      upper/, work/ of a snapshot whose record, in the store, names the place
//! ```
//!
//! The record counts: what lies here without one is what a crash has left, and is removed at the start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, XattrFlags};

use super::temp::{remove_file, remove_tree};
use crate::error::{Error, IoContext as _, Result};

const LOCK: &str = "lock";
/// What is tried out, and removed again.
const PROBE: &str = "probe";
/// Overlayfs keeps its own attributes under `trusted.`, and removed files as such devices.
const ATTRIBUTE: &str = "trusted.overlay.pintle";
/// `OVERLAYFS_SUPER_MAGIC`, see statfs(2).
const OVERLAY: u32 = 0x794c_7630;
/// Digits of a container's id.
const ID: usize = 64;

/// A folder that is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    _lock: File,
}

impl Place {
    /// Makes the folder, or takes it over; removes what belongs to no container that `is_known`.
    ///
    /// # Errors
    /// [`Error::Config`] where another store has it, or its file system holds no writable layers; I/O errors.
    pub(super) fn open(path: &Path, is_known: impl Fn(&str) -> bool) -> Result<Place> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .at("create", path)?;
        let name = path.join(LOCK);
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&name)
            .at("open", &name)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(unusable(path, "another daemon uses it")),
            Err(fs::TryLockError::Error(error)) => return Err(error).at("lock", &name),
        }
        holds_layers(path)?;
        sweep(path, is_known)?;
        Ok(Place {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::Config {
        key: "snapshots_dir",
        value: path.display().to_string(),
        reason: reason.to_owned(),
    }
}

/// Whether overlayfs can write here: told now, rather than by each container that fails.
fn holds_layers(path: &Path) -> Result<()> {
    let about = rustix::fs::statfs(path)
        .map_err(io::Error::from)
        .at("statfs", path)?;
    if u32::try_from(about.f_type).is_ok_and(|kind| kind == OVERLAY) {
        return Err(unusable(path, "lies on overlayfs, which can't lie upon itself"));
    }
    let probe = path.join(PROBE);
    remove_file(&probe)?;
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &probe,
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
    .and_then(|()| rustix::fs::setxattr(&probe, ATTRIBUTE, b"y", XattrFlags::empty()));
    remove_file(&probe)?;
    made.map_err(|errno| {
        unusable(
            path,
            &format!("its file system holds no writable layers: {errno}"),
        )
    })
}

/// Only what has a container's id for a name: an administrator may have named a folder with other things in it.
fn sweep(path: &Path, is_known: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(path).at("read", path)? {
        let entry = entry.at("read", path)?;
        let name = entry.file_name();
        let stale = |id: &&str| id.len() == ID && id.bytes().all(|b| b.is_ascii_hexdigit()) && !is_known(id);
        if name.to_str().filter(stale).is_some() {
            tracing::warn!(path = %entry.path().display(), "a writable layer without a record is removed");
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_store_s_and_keeps_what_is_not_ours() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("deep/place");
        let (known, stale) = ("a".repeat(ID), "b".repeat(ID));
        for name in [known.as_str(), stale.as_str(), "photos"] {
            fs::create_dir_all(path.join(name).join("upper")).unwrap();
        }
        let place = Place::open(&path, |id| id == known).unwrap();
        assert_eq!(place.path(), path);
        assert!(path.join(&known).exists() && path.join("photos/upper").exists());
        assert!(!path.join(&stale).exists() && !path.join(PROBE).exists());
        let error = Place::open(&path, |_| true).unwrap_err().to_string();
        assert!(error.contains("another daemon uses it"), "{error}");
        drop(place);
        assert!(Place::open(&path, |_| true).is_ok());
    }

    #[test]
    fn a_file_system_without_devices_and_attributes_is_refused() {
        // No file system of the kernel's own keeps anything here.
        let error = Place::open(Path::new("/proc/sys/place"), |_| true).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
