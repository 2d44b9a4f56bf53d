//! What the containers of a pod share: namespaces pinned by bind mounts, /dev/shm, and, for a shared pid namespace, a
//! tiny init.
//!
//! A namespace lives as long as a process is in it or a mount shows it; the mount at `<dir>/ns/<kind>` is what
//! takes the place of a pause process.

mod init;
mod procfs;
mod setup;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, umount2};

use crate::error::{Context, Result};
use crate::rootfs::{open_path, propagate};
use crate::sys::mount::{FsContext, attach, attr, clone_tree};

pub use setup::{needs_process, setup, setup_by_thread};

/// The folder of the pins within a pod's folder.
const PINS: &str = "ns";

/// As many mounts may lie on one another at a place that [`unmount`] clears.
const MAX_STACKED: u32 = 32;

/// Lets go of all pinned namespaces of a pod. What is gone already is fine. Runs to the end and reports the first
/// failure.
pub fn unpin(dir: &Path) -> Result<()> {
    let folder = dir.join(PINS);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.path("list", &folder)?,
    };
    let mut first = None;
    for entry in entries {
        let done = entry.path("list", &folder).and_then(|entry| {
            unmount(&entry.path())?;
            match fs::remove_file(entry.path()) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                other => other.path("remove", entry.path()),
            }
        });
        if let Err(e) = done {
            first.get_or_insert(e);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Mounts a tmpfs for the pod's /dev/shm: open to all, at most `size` bytes, with this user and group as its owner. The
/// folder is made if it is missing; if there is a tmpfs already, it stays.
pub fn mount_shm(path: &Path, size: u64, owner: (u32, u32)) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            if is_mount_point(path)? {
                return Ok(());
            }
        }
        other => other.path("create folder", path)?,
    }
    let context = FsContext::open("tmpfs").call("fsopen tmpfs")?;
    for (key, value) in [
        ("source", "shm".to_owned()),
        ("mode", "1777".to_owned()),
        ("size", size.to_string()),
        ("uid", owner.0.to_string()),
        ("gid", owner.1.to_string()),
    ] {
        context.set(key, value).path("configure tmpfs for", path)?;
    }
    let mount = context
        .mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)
        .path("make tmpfs for", path)?;
    attach(mount.as_fd(), open_path(path)?.as_fd()).path("mount tmpfs on", path)
}

/// Shows a folder at another place, without what is mounted in it, now or later. If it is shown there already, it stays;
/// another that is shown there, as one that was removed meanwhile, goes.
///
/// To bind a file the kernel goes through all mounts that lie in the mount it is bound from. Of a folder that holds the
/// pins of hundreds of pods that is most of the work, and of such a view nothing.
pub fn show_without_mounts(folder: &Path, at: &Path) -> Result<()> {
    fs::create_dir_all(at).path("create folder", at)?;
    if is_mount_point(at)? {
        let [is, shall] = [at, folder].map(|path| fs::metadata(path).path("stat", path));
        let (is, shall) = (is?, shall?);
        if (is.dev(), is.ino()) == (shall.dev(), shall.ino()) {
            return Ok(());
        }
        unmount(at)?;
    }
    let view = clone_tree(AT_FDCWD, folder, false).path("show", folder)?;
    propagate(view.as_fd(), MsFlags::MS_PRIVATE).path("show", folder)?;
    attach(view.as_fd(), open_path(at)?.as_fd()).path("mount a view on", at)
}

/// Unmounts everything that is mounted on a path. Nothing mounted, or no such path, is fine.
pub fn unmount(path: &Path) -> Result<()> {
    for _ in 0..MAX_STACKED {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // EINVAL: no mount point
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(e).path("unmount", path),
        }
    }
    Err(Errno::EBUSY).path("unmount", path)
}

/// Whether something is mounted on a path.
fn is_mount_point(path: &Path) -> Result<bool> {
    use crate::sys::mount::mount_id;
    let id = |path: &Path| mount_id(open_path(path)?.as_fd()).path("stat", path);
    Ok(id(path)? != id(path.parent().unwrap_or(path))?)
}
