//! Folders in `tmp/`, which are gone when they are not kept. A layer's folder `<n>` may have its frame beside it, as
//! `<n>.frame`: both live and die together.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use crate::error::{IoContext as _, Result};

/// Hands out names in the `tmp/` folder, which is emptied at start.
pub(crate) struct TempFolder {
    path: PathBuf,
    next: AtomicU64,
}

impl TempFolder {
    /// Makes `path`, or empties it.
    pub(crate) fn open(path: PathBuf) -> Result<TempFolder> {
        remove_tree(&path)?;
        fs::create_dir(&path).at("create", &path)?;
        Ok(TempFolder {
            path,
            next: AtomicU64::new(0),
        })
    }

    /// A path that nothing lies at.
    pub(crate) fn unused_path(&self) -> PathBuf {
        self.path
            .join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A file without a name.
    pub(crate) fn spool(&self) -> Result<File> {
        File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::TMPFILE.bits().cast_signed())
            .mode(0o600)
            .open(&self.path)
            .at("make a file in", &self.path)
    }

    /// A new empty folder.
    pub(crate) fn make(&self) -> Result<TempDir> {
        let path = self.unused_path();
        fs::create_dir(&path).at("create", &path)?;
        Ok(TempDir(Some(path)))
    }
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct TempDir(Option<PathBuf>);

impl TempDir {
    pub(crate) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Where the frame of a layer lies that is unpacked here.
    pub(crate) fn frame(&self) -> PathBuf {
        frame_of(self.path())
    }

    /// The folder stays; the caller looks after it now.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let Some(path) = self.0.take() else { return };
        if let Err(error) = remove_layer(&path) {
            tracing::warn!(%error, "a temporary folder stays until the next start");
        }
    }
}

/// Removes a folder with all it holds; one that is not there is no error.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// The place of a layer's frame, for a layer in `tmp/`.
pub(super) fn frame_of(layer: &Path) -> PathBuf {
    layer.with_extension("frame")
}

/// Removes a layer's folder in `tmp/` and the frame beside it.
pub(crate) fn remove_layer(path: &Path) -> Result<()> {
    remove_file(&frame_of(path)).and(remove_tree(path))
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}
