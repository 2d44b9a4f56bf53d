//! A procfs of our own, for parameters of namespaces.
//!
//! Every network namespace has folders of the same names under `sys/net`, and the kernel keeps those that were looked at
//! in one chain of its cache: with a thousand pods each look walks a thousand entries. The chains are an instance's own,
//! and an instance that nobody sees elsewhere can be given up before they get long.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::rootfs::open_proc;
use crate::sys::mount::{FsContext, attr};

/// An instance is given up after it was handed out this many times.
const USES: u32 = 128;

static CURRENT: Mutex<Option<(Arc<OwnedFd>, u32)>> = Mutex::new(None);

/// The root of a procfs: one of our own, or `/proc` where none may be made. Not for a forked child, which may have closed
/// what its maker opened.
pub(super) fn root() -> Result<Arc<OwnedFd>> {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((root, left)) = current.as_mut().filter(|(_, left)| *left > 0) {
        *left -= 1;
        return Ok(Arc::clone(root));
    }
    let made = FsContext::open("proc").and_then(|c| c.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC));
    let root = Arc::new(made.or_else(|_| open_proc())?);
    *current = Some((Arc::clone(&root), USES - 1));
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::AtFlags;
    use nix::sys::stat::fstatat;

    #[test]
    fn an_instance_shows_parameters_and_is_renewed() {
        let first = root().unwrap();
        fstatat(&first, "sys/net/core/somaxconn", AtFlags::empty()).unwrap();
        assert!((0..USES).any(|_| !Arc::ptr_eq(&first, &root().unwrap())));
    }
}
