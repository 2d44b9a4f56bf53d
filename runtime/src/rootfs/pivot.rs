//! Making the container's root the root, and letting go of the host's.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use crate::error::{Context, Result};
use crate::sys::mount::{MountAttr, attr, set_attr};

/// Nothing that is mounted from now on in this mount namespace reaches another one, nor the reverse, unless it is to
/// follow the one that it is a copy of.
pub(crate) fn isolate_mounts(follow: bool) -> Result<()> {
    let kind = match follow {
        true => MsFlags::MS_SLAVE,
        false => MsFlags::MS_PRIVATE,
    };
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | kind,
        None::<&str>,
    )
    .path("cut off all mounts below", "/")
}

/// Enters `root`, which must be the root of a mount, and detaches everything else.
pub(crate) fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root).call("enter root file system")?;
    // the old root comes to lie on the new one, so no folder for it is needed
    pivot_root(".", ".").call("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).call("detach old root")?;
    chdir("/").path("chdir", Path::new("/"))
}

/// Enters `root` as [`pivot`] does, where the old root is the kernel's first file system, which can't be detached: the new
/// root is moved over it.
pub(crate) fn move_root(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root).call("enter root file system")?;
    // what is only covered can be come by again: the host's procfs and sysfs must not lie there
    for full in ["/proc", "/sys"] {
        // where nothing is mounted there is nothing to hide
        let _ = umount2(full, MntFlags::MNT_DETACH);
    }
    let none = None::<&str>;
    nix::mount::mount(Some("."), "/", none, MsFlags::MS_MOVE, none).path("move root file system to", "/")?;
    chroot(".").call("chroot")?;
    chdir("/").path("chdir", Path::new("/"))
}

/// Applies `linux.rootfsPropagation` to the container's root.
pub(crate) fn set_propagation(root: BorrowedFd<'_>, flags: MsFlags) -> Result<()> {
    propagate(root, flags).call("set rootfsPropagation")
}

/// Sets the propagation of a mount.
pub(crate) fn propagate(mount: BorrowedFd<'_>, flags: MsFlags) -> nix::Result<()> {
    let kind = flags & !MsFlags::MS_REC;
    let attrs = MountAttr {
        propagation: kind.bits(),
        ..MountAttr::default()
    };
    set_attr(mount.as_fd(), &attrs, flags.contains(MsFlags::MS_REC))
}

/// Makes the mount of the root read-only, not what is mounted below.
pub(crate) fn make_readonly(root: BorrowedFd<'_>) -> Result<()> {
    let attrs = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    set_attr(root, &attrs, false).call("make root file system read-only")
}
