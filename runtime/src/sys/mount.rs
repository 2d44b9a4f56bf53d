//! The file-descriptor based mount interface (Linux 5.2 and later): fsopen, open_tree, move_mount, mount_setattr.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use nix::NixPath;
use nix::errno::Errno;

use super::check;
pub(crate) use super::xattr::{has_mark, set_mark};

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// `MOUNT_ATTR_*` of mount_setattr(2).
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    /// The mask of the three that exclude one another: relatime is 0.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const IDMAP: u64 = 0x0010_0000;
    pub(crate) const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// A file system context, from fsopen(2).
pub(crate) struct FsContext(OwnedFd);

impl FsContext {
    /// Opens a context for file systems of this type.
    pub(crate) fn open(fstype: &str) -> Result<Self, Errno> {
        let fstype = CString::new(fstype).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a NUL-terminated string that lives during the call.
        let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })?;
        Ok(Self(owned(fd)))
    }

    /// Sets a `key=value` parameter.
    pub(crate) fn set(&self, key: &str, value: impl AsRef<Path>) -> Result<(), Errno> {
        let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
        value
            .as_ref()
            .with_nix_path(|value| self.config(FSCONFIG_SET_STRING, &key, value.as_ptr().cast(), 0))?
    }

    /// Sets a parameter that is a word alone.
    pub(crate) fn flag(&self, key: &str) -> Result<(), Errno> {
        let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
        self.config(FSCONFIG_SET_FLAG, &key, ptr::null(), 0)
    }

    /// Makes the file system and returns it as a mount that is attached nowhere.
    pub(crate) fn mount(&self, attrs: u64) -> Result<OwnedFd, Errno> {
        self.command(FSCONFIG_CMD_CREATE)?;
        // SAFETY: plain integers.
        let fd = check(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attrs as libc::c_uint,
            )
        })?;
        Ok(owned(fd))
    }

    /// What the file system had to say about a refusal: reads the context's message queue.
    pub(crate) fn messages(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut buf = [0u8; 512];
        // each read takes one message off a queue of at most 8
        for _ in 0..8 {
            match nix::unistd::read(&self.0, &mut buf) {
                Ok(n) if n > 0 => out.push(String::from_utf8_lossy(&buf[..n]).trim_end().to_owned()),
                _ => break,
            }
        }
        out
    }

    fn command(&self, command: libc::c_uint) -> Result<(), Errno> {
        // SAFETY: commands take neither key nor value.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                ptr::null::<libc::c_char>(),
                ptr::null::<libc::c_void>(),
                0,
            )
        })?;
        Ok(())
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: &CStr,
        value: *const libc::c_void,
        aux: libc::c_int,
    ) -> Result<(), Errno> {
        // SAFETY: key is NUL-terminated; value is null or a NUL-terminated string, as the commands used here ask.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key.as_ptr(),
                value,
                aux,
            )
        })?;
        Ok(())
    }
}

/// Clones the mount at `path` below `dir` (the whole tree if `recursive`) into one that is attached nowhere.
/// With an empty path `dir` itself is cloned.
pub(crate) fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    let fd = path.with_nix_path(|path| {
        // SAFETY: a NUL-terminated string that lives during the call.
        check(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
    })??;
    Ok(owned(fd))
}

/// Attaches a detached mount on what `target` refers to, so that no path is walked again.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let empty = c"".as_ptr();
    // SAFETY: both paths are empty, NUL-terminated strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            empty,
            target.as_raw_fd(),
            empty,
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Changes attributes of the mount that `fd` is on, with everything mounted below it if `recursive`.
pub(crate) fn set_attr(fd: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: an empty path and a `struct mount_attr` of the size that is passed along.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Shows the ids of a mount that is attached nowhere through a user namespace, for good; those of everything mounted
/// below it, too, if `recursive`.
pub(crate) fn map_ids(
    fd: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    let attrs = MountAttr {
        set: attr::IDMAP,
        userns_fd: user_namespace.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    set_attr(fd, &attrs, recursive)
}

/// The id that /proc/self/mountinfo gives to the mount that `fd` is on.
pub(crate) fn mount_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: all-zero is a valid statx, which the kernel fills.
    let mut st: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    let mask = libc::STATX_MNT_ID;
    // SAFETY: an empty path, and a buffer that lives during the call.
    let done = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut st) };
    check(done.into())?;
    Ok(st.stx_mnt_id)
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: a descriptor that the kernel has just returned; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}
