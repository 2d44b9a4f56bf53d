//! Bind mounts: their sources, cloned while the host's tree is in sight, and what their propagation demands of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;
use nix::sys::stat::{SFlag, fstat};

use super::options::{Attrs, MountOptions};
use super::pivot::propagate;
use super::resolve::{is_kind, open_path};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{MountAttr, clone_tree, map_ids, mount_id, set_attr};

/// A bind mount, attached nowhere yet.
pub(super) struct Source {
    pub(super) mount: OwnedFd,
    pub(super) is_folder: bool,
}

/// A bind mount as it is asked for.
pub(super) struct Asked<'a> {
    pub(super) source: &'a Path,
    pub(super) options: &'a MountOptions,
    /// The propagation of mounts that say nothing about it.
    pub(super) base: MsFlags,
    /// Refuse what is to propagate and can't.
    pub(super) strict: bool,
}

/// Clones what a bind mount shows and gives it its ids, attributes and propagation. `users` is the user namespace that
/// its ids are shown through.
pub(super) fn open_source(asked: &Asked<'_>, users: Option<BorrowedFd<'_>>) -> Result<Source> {
    let Asked { source, options, .. } = *asked;
    let recursive = options.bind == Some(true);
    if asked.strict {
        check_propagation(source, options)?;
    }
    // Nothing is mounted below a file, which the kernel would look for among all mounts of the file system it is on.
    let recursive = recursive && !source.is_file();
    let mount = clone_tree(AT_FDCWD, source, recursive).path("bind mount source", source)?;
    let is_folder = is_kind(&fstat(&mount).path("stat mount source", source)?, SFlag::S_IFDIR);
    // what is to stay a peer of the host's mount must not first be made its slave
    let stays_shared = options.propagation.iter().any(|f| f.contains(MsFlags::MS_SHARED));
    let base = if stays_shared {
        MsFlags::empty()
    } else {
        asked.base
    };
    for flags in [base]
        .iter()
        .chain(&options.propagation)
        .filter(|f| !f.is_empty())
    {
        propagate(mount.as_fd(), *flags).path("set propagation of mount source", source)?;
    }
    if let Some(users) = users {
        map_ids(mount.as_fd(), users, options.idmap == Some(true)).map_err(|errno| match errno {
            Errno::EINVAL => Error::invalid(
                format!("ids of {}", source.display()),
                "its file system can't show them mapped",
            ),
            _ => Error::io("map the ids of mount source", source, errno),
        })?;
    }
    set(&mount, options.recursive, true).path("set recursive attributes of mount source", source)?;
    set(&mount, options.attrs, false).path("set attributes of mount source", source)?;
    Ok(Source { mount, is_folder })
}

/// Gives a folder's mount that was made elsewhere the attributes that are asked for.
pub(super) fn from_mount(mount: OwnedFd, options: &MountOptions) -> Result<Source> {
    for flags in &options.propagation {
        propagate(mount.as_fd(), *flags).call("set propagation of mount")?;
    }
    set(&mount, options.recursive, true).call("set recursive attributes of mount")?;
    set(&mount, options.attrs, false).call("set attributes of mount")?;
    Ok(Source {
        mount,
        is_folder: true,
    })
}

/// Changes attributes of a mount, if there are any to change.
pub(super) fn set(mount: &OwnedFd, attrs: Attrs, recursive: bool) -> nix::Result<()> {
    if attrs.is_empty() {
        return Ok(());
    }
    let attrs = MountAttr {
        set: attrs.set,
        clear: attrs.clear,
        ..MountAttr::default()
    };
    set_attr(mount.as_fd(), &attrs, recursive)
}

/// A container can receive mounts only from a source on a shared or slave mount, and give only to a shared one.
fn check_propagation(source: &Path, options: &MountOptions) -> Result<()> {
    let Some(asked) = options.propagation.last().map(|f| *f & !MsFlags::MS_REC) else {
        return Ok(());
    };
    if asked != MsFlags::MS_SHARED && asked != MsFlags::MS_SLAVE {
        return Ok(());
    }
    let fd = open_path(source)?;
    let id = mount_id(fd.as_fd()).path("stat mount source", source)?;
    let path = PathBuf::from("/proc/self/mountinfo");
    let table = std::fs::read_to_string(&path).path("read", &path)?;
    let (shared, slave) = peers(&table, id);
    let fits = shared || (slave && asked == MsFlags::MS_SLAVE);
    if fits {
        return Ok(());
    }
    let wanted = if asked == MsFlags::MS_SHARED {
        "a shared mount"
    } else {
        "a shared or slave mount"
    };
    Err(Error::invalid(
        format!("propagation of {}", source.display()),
        format!("path is not on {wanted}"),
    ))
}

/// Whether a mount is shared and whether it is a slave.
fn peers(mountinfo: &str, id: u64) -> (bool, bool) {
    let id = id.to_string();
    let line = mountinfo.lines().find(|l| l.split(' ').next() == Some(&id));
    let optional = line.and_then(|l| l.split(" - ").next()).unwrap_or_default();
    let has = |tag: &str| optional.split(' ').skip(6).any(|field| field.starts_with(tag));
    (has("shared:"), has("master:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_read_off_the_mount_table() {
        let table = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n\
            22 21 8:1 / /a rw shared:2 master:1 - ext4 /dev/sda rw\n\
            23 21 8:1 / /shared:x rw - ext4 /dev/sda rw\n\
            24 21 8:1 / /m rw master:9 - ext4 /dev/sda rw\n";
        assert_eq!(peers(table, 21), (true, false));
        assert_eq!(peers(table, 22), (true, true));
        assert_eq!(peers(table, 23), (false, false));
        assert_eq!(peers(table, 24), (false, true));
        assert_eq!(peers(table, 99), (false, false));
    }
}
