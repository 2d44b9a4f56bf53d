//! Mounts that aren't binds: new instances of file systems.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::options::{Attrs, MountOptions};
use super::pivot::propagate;
use super::resolve::{Place, ensure_folder, open_without_symlinks};
use super::{bind, copyup};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{FsContext, attach, attr};

/// Kernel file systems, one super block of which many mounts may show: read-only is a matter of the mount alone.
const VIRTUAL: [&str; 8] = [
    "proc", "sysfs", "tmpfs", "mqueue", "devpts", "cgroup", "cgroup2", "bpf",
];

/// Makes a file system of this type and mounts it at `destination` inside the root.
pub(super) fn mount_new(
    root: BorrowedFd<'_>,
    fstype: &str,
    source: Option<&Path>,
    destination: &Path,
    options: &MountOptions,
) -> Result<OwnedFd> {
    let place = open_place(root, fstype, destination)?;
    let context = FsContext::open(fstype).map_err(|errno| match errno {
        Errno::ENODEV => Error::invalid("type", format!("this kernel has no file system {fstype:?}")),
        _ => Error::io("open file system", fstype, errno),
    })?;
    configure(&context, fstype, source, options, &place)?;
    // what is to be filled first is made read-only after
    let late = options.attrs.set & if options.copy_up { attr::RDONLY } else { 0 };
    let mount = context
        .mount(options.attrs.set & !late)
        .map_err(|errno| explain(&context, fstype, errno))?;
    if options.copy_up {
        copyup::copy(place.fd.as_fd(), mount.as_fd())?;
        let attrs = Attrs { set: late, clear: 0 };
        bind::set(&mount, attrs, false).path("set attributes of", fstype)?;
    }
    for flags in &options.propagation {
        propagate(mount.as_fd(), *flags).path("set propagation of", fstype)?;
    }
    attach(mount.as_fd(), place.fd.as_fd()).path("attach", fstype)?;
    bind::set(&mount, options.recursive, true).path("set recursive attributes of", fstype)?;
    Ok(mount)
}

/// Where it goes. A symlink in the place of /proc or /sys would let an image choose what its own protections apply
/// to.
fn open_place(root: BorrowedFd<'_>, fstype: &str, destination: &Path) -> Result<Place> {
    if matches!(fstype, "proc" | "sysfs") {
        match open_without_symlinks(root, destination, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(fd) => return Ok(Place { fd, created: false }),
            Err(e) if matches!(e.errno(), Some(Errno::ELOOP | Errno::ENOTDIR)) => {
                let reason = format!("{fstype} must be mounted on ordinary directory: {e}");
                return Err(Error::invalid("destination", reason));
            }
            Err(e) if e.errno() != Some(Errno::ENOENT) => return Err(e),
            Err(_) => {}
        }
    }
    ensure_folder(root, destination)
}

fn configure(
    context: &FsContext,
    fstype: &str,
    source: Option<&Path>,
    options: &MountOptions,
    place: &Place,
) -> Result<()> {
    if let Some(source) = source {
        // file systems without a device take any word or none
        let done = context.set("source", source);
        if !VIRTUAL.contains(&fstype) {
            done.map_err(|errno| explain(context, "source", errno))?;
        }
    }
    for option in &options.data {
        let done = match option.split_once('=') {
            Some((key, value)) => context.set(key, value),
            None => context.flag(option),
        };
        done.map_err(|errno| explain(context, option, errno))?;
    }
    if options.attrs.set & attr::RDONLY != 0 && !VIRTUAL.contains(&fstype) {
        context
            .flag("ro")
            .map_err(|errno| explain(context, "ro", errno))?;
    }
    // a tmpfs takes the mode of the folder that it covers
    if fstype == "tmpfs" && !options.data.iter().any(|o| o.starts_with("mode=")) {
        let mode = if place.created {
            0o1777
        } else {
            fstat(&place.fd).call("stat")?.st_mode & 0o7777
        };
        context
            .set("mode", format!("{mode:o}"))
            .map_err(|errno| explain(context, "mode", errno))?;
    }
    Ok(())
}

/// The file system's own words where it has some.
fn explain(context: &FsContext, what: &str, errno: Errno) -> Error {
    match context.messages().into_iter().next() {
        Some(words) => Error::invalid(format!("option {what:?}"), format!("{} ({words})", errno.desc())),
        None => Error::io("set up file system", what, errno),
    }
}
