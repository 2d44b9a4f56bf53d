//! The root file system where the other runtime finds it: mounted in a mount namespace of the caller's own.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Context, Error, Result};
use crate::protocol::Overlay;
use crate::rootfs::{detached_overlay, open_path};
use crate::sys::mount::{attach, mount_id};

/// Leaves the host's mount namespace, and mounts `overlay` on `root`.
///
/// Only the mount that `root` lies on is cut off from the host's: the others go on to send and receive, as volumes that are
/// to propagate need it.
pub(super) fn mount_root(overlay: &Overlay, root: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).call("unshare mount namespace")?;
    let below = mount_point(root)?;
    let none = None::<&str>;
    mount(none, &below, none, MsFlags::MS_PRIVATE, none).path("make private", &below)?;
    let made = detached_overlay(overlay)?;
    attach(made.as_fd(), open_path(root)?.as_fd()).path("attach overlay to", root)
}

/// Where the mount is attached that a folder lies on.
fn mount_point(folder: &Path) -> Result<PathBuf> {
    let table = Path::new("/proc/self/mountinfo");
    let id = mount_id(open_path(folder)?.as_fd()).path("find mount of", folder)?;
    let text = fs::read_to_string(table).path("read", table)?;
    find(&text, id).ok_or_else(|| Error::invalid(folder.display().to_string(), "lies on no mount"))
}

/// `id parent major:minor root mount-point options …`, see proc_pid_mountinfo(5).
fn find(table: &str, id: u64) -> Option<PathBuf> {
    let id = id.to_string();
    let line = table
        .lines()
        .find(|line| line.split(' ').next() == Some(id.as_str()))?;
    Some(unescape(line.split(' ').nth(4)?))
}

/// Blanks, tabs, line ends and backslashes are three octal digits after a backslash.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_by_id() {
        let table = "22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                     122 22 0:21 / /run/with\\040blank\\134 rw shared:9 - tmpfs tmpfs rw\n";
        assert_eq!(find(table, 22).unwrap(), Path::new("/"));
        assert_eq!(find(table, 122).unwrap(), Path::new("/run/with blank\\"));
        assert_eq!(find(table, 2), None);
        assert!(mount_point(Path::new("/proc/self")).unwrap().starts_with("/proc"));
    }
}
