//! Folders in `tmp/`, which are gone when they are not kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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

    /// The folder stays; the caller looks after it now.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let Some(path) = self.0.take() else { return };
        if let Err(error) = remove_tree(&path) {
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
