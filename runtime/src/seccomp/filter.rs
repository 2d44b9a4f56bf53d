//! A compiled filter on disk, and loading it.
//!
//! The file is the 8 bytes `PNTLSCF1`, the flags for seccomp(2) as a little-endian u32, 4 bytes of zero, and the
//! program as the kernel takes it (an array of `struct sock_filter`).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::sys::cred::load_seccomp;
use crate::sys::fd::{close_number, send_with_fds};

/// First bytes of a filter file.
pub(super) const MAGIC: &[u8; 8] = b"PNTLSCF1";

/// Bytes before the program.
pub(super) const HEADER: usize = 16;

/// The kernel takes at most 4096 instructions of 8 bytes.
const MAX_PROGRAM: usize = 4096 * 8;

/// A filter in memory, read while the host's file system was still in sight.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    path: PathBuf,
    flags: u32,
    program: Vec<u8>,
    listener: Option<Arc<Listener>>,
}

/// Whom the listener's descriptor is handed to, with what words.
#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    message: Vec<u8>,
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: seccomp(2) returns a descriptor.
#[cfg(feature = "seccomp-compile")]
const NEW_LISTENER: u32 = 1 << 3;

impl Filter {
    /// Reads a filter file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::from_file(File::open(path).path("open seccomp filter", path)?, path)
    }

    /// Reads an open filter file; `path` is for errors.
    pub(crate) fn from_file(file: File, path: &Path) -> Result<Self> {
        let mut content = Vec::new();
        file.take((HEADER + MAX_PROGRAM + 1) as u64)
            .read_to_end(&mut content)
            .path("read seccomp filter", path)?;
        let program = content.get(HEADER..).unwrap_or_default();
        if !content.starts_with(MAGIC)
            || program.is_empty()
            || program.len() > MAX_PROGRAM
            || !program.len().is_multiple_of(8)
        {
            return Err(Error::io("read seccomp filter", path, Errno::ENOEXEC));
        }
        let flags = u32::from_le_bytes([content[8], content[9], content[10], content[11]]);
        Ok(Self {
            path: path.to_owned(),
            flags,
            program: program.to_vec(),
            listener: None,
        })
    }

    /// Has a process outside decide on what the program leaves open. It is told over `socket`, with `message` and the
    /// listener's descriptor.
    #[cfg(feature = "seccomp-compile")]
    pub(crate) fn with_listener(mut self, socket: OwnedFd, message: Vec<u8>) -> Self {
        self.flags |= NEW_LISTENER;
        self.listener = Some(Arc::new(Listener { socket, message }));
        self
    }

    /// Confines the caller from now on.
    pub(crate) fn load(&self) -> Result<()> {
        let done = load_seccomp(&self.program, self.flags).path("load seccomp filter", &self.path)?;
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        // from here on the listener's owner may have to allow every call: the very next one makes it the owner
        let number = i32::try_from(done).unwrap_or(-1);
        let sent = send_with_fds(listener.socket.as_fd(), &listener.message, &[number]);
        close_number(number);
        sent.call("hand over seccomp listener")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = |magic: &[u8], flags: u8, program: &[u8]| {
            [magic, &[flags, 0, 0, 0, 0, 0, 0, 0], program].concat()
        };
        let bad = [
            Vec::new(),
            MAGIC.to_vec(),
            file(MAGIC, 0, b""),
            file(MAGIC, 0, b"123"),
            file(b"XNTLSCF1", 0, b"12345678"),
            file(MAGIC, 0, &[0; MAX_PROGRAM + 8]),
        ];
        for content in bad {
            std::fs::write(&path, &content).unwrap();
            assert!(Filter::read(&path).is_err(), "{} bytes", content.len());
        }
        std::fs::write(&path, file(MAGIC, 2, b"12345678")).unwrap();
        assert_eq!(Filter::read(&path).unwrap().flags, 2);
    }
}
