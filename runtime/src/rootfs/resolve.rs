//! Paths inside a container: always resolved below its root by openat2(2), never by string.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Context, Error, Result};

/// How often a resolution is repeated that a rename somewhere made uncertain (EAGAIN).
const ATTEMPTS: u32 = 128;

/// As many dangling symlinks are followed, each of which leads on to the next; the kernel's own bound.
const MAX_SYMLINKS: u32 = 40;

/// Opens `path` as a process whose root is `root` would: absolute symlinks and `..` stay inside. Magic links (those
/// of /proc/<pid>/fd, exe, …) are refused.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlag::RESOLVE_IN_ROOT).path("open in container", path)
}

/// Like [`open_in_root`], but no part of the path may be a symlink.
pub(crate) fn open_without_symlinks(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> Result<OwnedFd> {
    let strict = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    resolve(root, path, flags, strict).path("open in container (no symlinks allowed)", path)
}

/// Reads a file inside a root, at most `limit` bytes of it.
pub fn read_in_root(root: BorrowedFd<'_>, path: &Path, limit: u64) -> Result<Vec<u8>> {
    // O_NONBLOCK: a FIFO in its place must not hang the caller
    let file = File::from(open_in_root(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
    if !is_kind(&fstat(&file).path("stat in container", path)?, SFlag::S_IFREG) {
        return Err(Error::io("read in container", path, Errno::EINVAL));
    }
    let mut content = Vec::new();
    file.take(limit)
        .read_to_end(&mut content)
        .path("read in container", path)?;
    Ok(content)
}

/// An O_PATH descriptor of a path of the host.
pub(crate) fn open_path(path: &Path) -> Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).path("open", path)
}

/// The host's procfs, made sure to be one.
pub(crate) fn open_proc() -> Result<OwnedFd> {
    let path = Path::new("/proc");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = openat(AT_FDCWD, path, flags, Mode::empty()).path("open", path)?;
    let kind = fstatfs(&proc).path("statfs", path)?.filesystem_type();
    if kind != PROC_SUPER_MAGIC {
        return Err(Error::io("use as procfs", path, Errno::ENODEV));
    }
    Ok(proc)
}

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlag, how: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(how | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    for _ in 0..ATTEMPTS {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// Where a mount goes: the place, opened, and whether it had to be made.
pub(crate) struct Place {
    pub(crate) fd: OwnedFd,
    pub(crate) created: bool,
}

/// Opens a folder inside a root, making it and its parents (0755) where they are missing.
pub(crate) fn ensure_folder(root: BorrowedFd<'_>, path: &Path) -> Result<Place> {
    match resolve(root, path, OFlag::O_PATH, ResolveFlag::RESOLVE_IN_ROOT) {
        Ok(fd) => {
            if !is_kind(&fstat(&fd).path("stat in container", path)?, SFlag::S_IFDIR) {
                return Err(Error::io("use as a folder", path, Errno::ENOTDIR));
            }
            Ok(Place { fd, created: false })
        }
        Err(Errno::ENOENT) => {
            let mut symlinks = 0;
            let fd = make_folders(root, path, &mut symlinks)?;
            Ok(Place { fd, created: true })
        }
        Err(e) => Err(e).path("open in container", path),
    }
}

/// Opens a file inside a root, making an empty one and its parents where they are missing.
pub(crate) fn ensure_file(root: BorrowedFd<'_>, path: &Path) -> Result<Place> {
    ensure_file_at(root, path, 0)
}

fn ensure_file_at(root: BorrowedFd<'_>, path: &Path, symlinks: u32) -> Result<Place> {
    match resolve(root, path, OFlag::O_PATH, ResolveFlag::RESOLVE_IN_ROOT) {
        Ok(fd) => return Ok(Place { fd, created: false }),
        Err(Errno::ENOENT) if symlinks < MAX_SYMLINKS => {}
        Err(e) => return Err(e).path("open in container", path),
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::io("create in container", path, Errno::EISDIR));
    };
    let folder = ensure_folder(root, parent)?;
    if let Some(target) = dangling(folder.fd.as_fd(), name) {
        return ensure_file_at(root, &parent.join(target), symlinks + 1);
    }
    let flags = OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd =
        openat(&folder.fd, name, flags, Mode::from_bits_truncate(0o644)).path("create in container", path)?;
    Ok(Place { fd, created: true })
}

/// mkdir -p below `root`, one step at a time, each from the descriptor of the one before.
fn make_folders(root: BorrowedFd<'_>, path: &Path, symlinks: &mut u32) -> Result<OwnedFd> {
    let mut here = resolve(root, Path::new("/"), OFlag::O_PATH, ResolveFlag::RESOLVE_IN_ROOT)
        .path("open in container", "/")?;
    let mut walked = PathBuf::from("/");
    for part in normal_parts(path) {
        let next = walked.join(&part);
        here = match resolve(root, &next, OFlag::O_PATH, ResolveFlag::RESOLVE_IN_ROOT) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => match dangling(here.as_fd(), &part) {
                Some(_) if *symlinks >= MAX_SYMLINKS => {
                    return Err(Error::io("create folder in container", next, Errno::ELOOP));
                }
                Some(target) => {
                    *symlinks += 1;
                    make_folders(root, &walked.join(target), symlinks)?
                }
                None => make_folder(here.as_fd(), &part, &next)?,
            },
            Err(e) => return Err(e).path("open in container", next),
        };
        walked = next;
    }
    Ok(here)
}

fn make_folder(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e).path("create folder in container", path),
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).path("open in container", path)
}

/// What a symlink says that leads nowhere yet.
fn dangling(parent: BorrowedFd<'_>, name: &OsStr) -> Option<OsString> {
    let st = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    is_kind(&st, SFlag::S_IFLNK).then(|| readlinkat(parent, name).ok())?
}

/// The names of a path, `..` taken off against what stands before it.
fn normal_parts(path: &Path) -> Vec<OsString> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts
}

/// Whether a file is of this type.
pub(crate) fn is_kind(st: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits()) == kind
}

#[cfg(test)]
mod tests;
