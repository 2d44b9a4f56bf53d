//! Makes one file system object, beneath the layer's root and never through a link that leaves it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dirs::{self, DirError, Dirs, Doing};
use super::error::EntryError;
use super::meta::Meta;
use super::path::LayerPath;

/// What an entry becomes, links and content apart.
pub(super) enum Node<'a> {
    Symlink(&'a [u8]),
    Special(FileType, u64),
}

/// Runs `make` in the parent of `path`; where something stands in the way, takes that away first.
fn replacing<T>(
    dirs: &mut Dirs<'_>,
    path: &LayerPath,
    verb: &'static str,
    make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
) -> Result<T, DirError> {
    let parent = dirs.open(path.parent())?;
    match make(parent.as_fd(), path.name()) {
        Err(Errno::EXIST) => {
            remove(dirs, parent.as_fd(), path.name())?;
            make(parent.as_fd(), path.name()).doing(verb)
        }
        other => other.doing(verb),
    }
}

/// Takes away what an earlier entry of the layer made.
fn remove(dirs: &mut Dirs<'_>, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), DirError> {
    dirs.forget();
    dirs.replaced = true;
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {
            let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            let path = std::path::Path::new(bytes_as_os_str(&path));
            std::fs::remove_dir_all(path).map_err(|error| {
                DirError::System(
                    "replace folder",
                    Errno::from_io_error(&error).unwrap_or(Errno::IO),
                )
            })
        }
        other => other.doing("replace"),
    }
}

fn bytes_as_os_str(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// A regular file; gives back how many bytes of the disk its content takes.
pub(super) fn file(
    dirs: &mut Dirs<'_>,
    path: &LayerPath,
    meta: &Meta,
    content: impl FnOnce(&mut File) -> Result<u64, DirError>,
) -> Result<u64, DirError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = replacing(dirs, path, "create file", |parent, name| {
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
    })?;
    let mut file = File::from(fd);
    let bytes = content(&mut file)?;
    meta.apply_to_fd(file.as_fd())?;
    meta.times_to_fd(file.as_fd())?;
    Ok(bytes)
}

/// A folder: made, or, if there is one already, given the entry's attributes. Its times come last of all, since
/// every file made in it changes them. Says whether it is new.
pub(super) fn folder(dirs: &mut Dirs<'_>, path: &LayerPath, meta: &Meta) -> Result<bool, DirError> {
    if path.is_root() {
        let root = dirs.open(b"")?;
        meta.apply_to_fd(root.as_fd())?;
        return Ok(false);
    }
    let parent = dirs.open(path.parent())?;
    let (parent, name) = (parent.as_fd(), path.name());
    let mode = Mode::from_raw_mode(0o700);
    let (mut new, mut opaque) = (true, false);
    match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).doing("look at")?;
            new = FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
            if new {
                opaque = dirs::is_whiteout(parent, name)?;
                remove(dirs, parent, name)?;
                rustix::fs::mkdirat(parent, name, mode).doing("make folder")?;
            }
        }
        Err(errno) => return Err(DirError::System("make folder", errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).doing("open folder")?;
    meta.apply_to_fd(fd.as_fd())?;
    if opaque {
        dirs::set_opaque(fd.as_fd())?;
    }
    Ok(new)
}

/// A symbolic link, device or fifo.
pub(super) fn node(
    dirs: &mut Dirs<'_>,
    path: &LayerPath,
    meta: &Meta,
    node: &Node<'_>,
) -> Result<(), DirError> {
    replacing(dirs, path, "create", |parent, name| match node {
        Node::Symlink(target) => rustix::fs::symlinkat(*target, parent, name),
        Node::Special(kind, device) => {
            rustix::fs::mknodat(parent, name, *kind, Mode::from_raw_mode(0o600), *device)
        }
    })?;
    let parent = dirs.open(path.parent())?;
    meta.apply_to_name(parent.as_fd(), path.name(), matches!(node, Node::Symlink(_)))
}

/// A hard link to an earlier entry.
pub(super) fn hard_link(dirs: &mut Dirs<'_>, path: &LayerPath, target: &[u8]) -> Result<(), DirError> {
    let shown = || String::from_utf8_lossy(target).into_owned();
    let source = LayerPath::clean(target).map_err(|error| match error {
        EntryError::Escapes => EntryError::LinkEscapes(shown()),
        other => other,
    })?;
    if source.is_root() {
        return Err(EntryError::LinkToFolder(shown()).into());
    }
    if source == *path {
        return Ok(());
    }
    let from = match source.parent() {
        b"" => dirs.open(b"")?,
        parent => match dirs.open_existing(parent) {
            Ok(fd) => dirs::Dir::Below(std::rc::Rc::new(fd)),
            Err(Errno::XDEV | Errno::LOOP) => return Err(EntryError::LinkEscapes(shown()).into()),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(EntryError::LinkTargetMissing(shown()).into()),
            Err(errno) => return Err(DirError::System("open link target", errno)),
        },
    };
    match rustix::fs::statat(from.as_fd(), source.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Err(EntryError::LinkTargetMissing(shown()).into()),
        Err(errno) => return Err(DirError::System("look at link target", errno)),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            return Err(EntryError::LinkToFolder(shown()).into());
        }
        Ok(_) => {}
    }
    replacing(dirs, path, "link", |parent, name| {
        rustix::fs::linkat(from.as_fd(), source.name(), parent, name, AtFlags::empty())
    })
}
