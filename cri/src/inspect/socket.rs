//! A socket at a path that may be somebody else's: taken only where nobody answers, and given back only while it is ours.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::net::UnixListener;

use crate::error::{Error, IoContext as _, Result};

/// Only root asks.
const MODE: u32 = 0o600;

/// A listener, whose socket goes with it.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's name.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `path`. What lies there is replaced only if it is a socket on which nobody answers, as a process that was
    /// killed leaves it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where somebody answers, or where it is no socket; I/O errors.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).io("create folder", folder)?;
        }
        clear(path)?;
        let mut unnamed = path.to_owned();
        unnamed
            .as_mut_os_string()
            .push(format!(".{}", std::process::id()));
        drop(fs::remove_file(&unnamed));
        let listener = UnixListener::bind(&unnamed).io("bind socket", &unnamed)?;
        let named = name(&unnamed, path);
        if named.is_err() {
            drop(fs::remove_file(&unnamed));
        }
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: named?,
        })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody else may have put his there meanwhile.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Removes a socket that nobody listens on any more.
fn clear(path: &Path) -> Result<()> {
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {
            fs::remove_file(path).io("remove", path)
        }
        _ => Err(taken(path)),
    }
}

fn taken(path: &Path) -> Error {
    let reason = format!("{} is somebody else's, as an installed CRI-O's", path.display());
    Error::invalid("inspection.socket", reason)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// Gives a socket its name, unless somebody has taken that since.
fn name(unnamed: &Path, path: &Path) -> Result<(u64, u64)> {
    fs::set_permissions(unnamed, Permissions::from_mode(MODE)).io("set mode of", unnamed)?;
    let is = identity(unnamed).io("stat", unnamed)?;
    match renameat_with(CWD, unnamed, CWD, path, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST) => Err(taken(path)),
        renamed => renamed
            .map_err(io::Error::from)
            .io("name socket", path)
            .map(|()| is),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_answers_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("crio/crio.sock");
        fs::create_dir(tmp.path().join("crio")).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path), Err(Error::Invalid { .. })));
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(fs::read_dir(tmp.path().join("crio")).unwrap().count(), 1);
        drop(other);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("crio.sock");
        fs::write(&path, "a file").unwrap();
        assert!(matches!(Socket::bind(&path), Err(Error::Invalid { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    }

    #[tokio::test]
    async fn a_socket_is_private_and_goes_only_while_it_is_ours() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("deep/crio.sock");
        let ours = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        drop(ours);
        assert!(!path.exists());
        let ours = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }
}
