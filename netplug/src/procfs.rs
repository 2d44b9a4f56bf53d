//! A procfs of our own, for network settings.
//!
//! Every network namespace has folders of the same names under `sys/net`, and the kernel keeps those that were looked at
//! in one chain of its cache: with a thousand pods each look walks a thousand entries. The chains are an instance's own,
//! and an instance that nobody sees elsewhere can be given up before they get long.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// An instance is given up after it was handed out this many times.
const USES: u32 = 128;

struct Instance {
    root: Arc<OwnedFd>,
    left: u32,
}

static CURRENT: Mutex<Option<Instance>> = Mutex::new(None);

/// The root of a procfs: one of our own, or `/proc` where none may be made.
pub(crate) fn root() -> nix::Result<Arc<OwnedFd>> {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(instance) = current.as_mut().filter(|instance| instance.left > 0) {
        instance.left -= 1;
        return Ok(Arc::clone(&instance.root));
    }
    let root = Arc::new(make().or_else(|_| the_nodes())?);
    *current = Some(Instance {
        root: Arc::clone(&root),
        left: USES - 1,
    });
    Ok(root)
}

fn make() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn the_nodes() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open("/proc", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_shows_settings_and_is_renewed() {
        let first = root().unwrap();
        let seen = nix::sys::stat::fstatat(&first, "sys/net/core/somaxconn", nix::fcntl::AtFlags::empty());
        assert_eq!(seen.unwrap().st_mode & 0o170_000, 0o100_000);
        let renewed = (0..USES).any(|_| !Arc::ptr_eq(&first, &root().unwrap()));
        assert!(renewed);
    }
}
