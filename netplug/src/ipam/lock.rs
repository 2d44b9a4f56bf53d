//! The lock of a state folder: between threads as well as between processes.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, IoContext, Result};

/// Held for as long as it lives; the kernel releases it should the process die.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "dropping it is its use")] Flock<File>);

impl Lock {
    /// Waits for the lock. Each call opens the file anew: an open file is what holds a lock.
    pub(crate) fn take(path: &Path) -> Result<Lock> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .io("open", path)?;
        let mut pending = file;
        loop {
            match Flock::lock(pending, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((file, nix::Error::EINTR)) => pending = file,
                Err((_, errno)) => {
                    return Err(Error::Io {
                        verb: "lock",
                        path: path.to_owned(),
                        source: errno.into(),
                    });
                }
            }
        }
    }
}
