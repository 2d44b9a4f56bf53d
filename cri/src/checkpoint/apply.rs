//! Puts what a container had written and deleted into a root file system.
//!
//! Nothing in the tar can reach outside that root: every name is cleaned, its parent is opened beneath the root without
//! following a symlink (openat2(2)), and what it replaces is removed by that parent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod,
    fchown, fsetxattr, linkat, makedev, mkdirat, mknodat, openat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::bad;
use crate::error::{Error, IoContext as _, Result};

/// More entries than these would exhaust the inodes of most disks.
const MAX_ENTRIES: usize = 8 << 20;
/// `deleted.files` has fewer paths than this.
const MAX_DELETED: usize = 8 << 20;
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Unpacks a tar over what is in `root`.
///
/// # Errors
/// What is wrong with the tar, with the entry's name; a part of it lies there then.
pub(super) fn unpack(tar: impl Read, root: BorrowedFd<'_>) -> Result<()> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().map_err(|error| broken(&error))?;
    let mut folders = Vec::new();
    for (count, entry) in entries.enumerate() {
        if count == MAX_ENTRIES {
            return Err(bad(format!(
                "rootfs-diff.tar has more than {MAX_ENTRIES} entries"
            )));
        }
        let mut entry = entry.map_err(|error| broken(&error))?;
        let name = entry.path().map_err(|error| broken(&error))?.into_owned();
        let path = clean(&name)?;
        if path.as_os_str().is_empty() {
            continue;
        }
        put(root, &path, &mut entry).map_err(|error| named(&path, &error))?;
        if entry.header().entry_type() == EntryType::Directory {
            folders.push((path, entry.header().mtime().unwrap_or(0)));
        }
    }
    // what was put into them has changed their times
    for (path, mtime) in folders.iter().rev() {
        let (parent, name) = split(path)?;
        let set = open_folder(root, parent).and_then(|parent| set_time(parent.as_fd(), name, *mtime));
        set.map_err(|error| named(path, &error.into()))?;
    }
    Ok(())
}

/// Removes these paths from `root`; those that are not there are fine.
///
/// # Errors
/// A path that leads elsewhere, or that can't be removed.
pub(super) fn delete(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<()> {
    if paths.len() > MAX_DELETED {
        return Err(bad(format!("deleted.files has more than {MAX_DELETED} paths")));
    }
    for path in paths {
        let path = clean(path)?;
        if path.as_os_str().is_empty() {
            return Err(bad("deleted.files names the root"));
        }
        let (parent, name) = split(&path)?;
        let gone = match open_folder(root, parent) {
            Ok(parent) => remove(parent.as_fd(), name),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error),
        };
        gone.map_err(|error| named(&path, &error.into()))?;
    }
    Ok(())
}

/// A path of names only, relative to the root.
fn clean(path: &Path) -> Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(bad(format!("{} leads out of the container", path.display())));
            }
        }
    }
    Ok(out)
}

fn split(path: &Path) -> Result<(&Path, &Path)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, Path::new(name))),
        _ => Err(bad(format!("{} names nothing", path.display()))),
    }
}

fn open_folder(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    match path.as_os_str().is_empty() {
        true => openat(root, ".", FOLDER, Mode::empty()),
        false => openat2(root, path, FOLDER, Mode::empty(), BENEATH),
    }
}

/// The folder of an entry; parents that are missing are made.
fn parent_of(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    match open_folder(root, path) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut at = open_folder(root, Path::new(""))?;
    for name in path.iter() {
        match mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        at = openat(&at, name, FOLDER, Mode::empty())?;
    }
    Ok(at)
}

fn put<R: Read>(root: BorrowedFd<'_>, path: &Path, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let name = Path::new(path.file_name().unwrap_or_default());
    let at = parent_of(root, parent)?;
    let kind = entry.header().entry_type();
    let owner = (entry.header().uid()?, entry.header().gid()?);
    let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
    let mtime = entry.header().mtime()?;
    if kind == EntryType::Directory {
        let folder = make_folder(at.as_fd(), name)?;
        set_owner(folder.as_fd(), owner)?;
        fchmod(&folder, mode)?;
        return set_attributes(folder.as_fd(), entry);
    }
    remove(at.as_fd(), name)?;
    match kind {
        EntryType::Regular | EntryType::Continuous => {
            let attributes = pax_attributes(entry)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&at, name, flags, Mode::from_raw_mode(0o600))?);
            io::copy(entry, &mut file)?;
            set_owner(file.as_fd(), owner)?;
            fchmod(&file, mode)?;
            put_attributes(file.as_fd(), &attributes)?;
        }
        EntryType::Link => {
            let target = entry
                .link_name()?
                .ok_or_else(|| wrong("a link without a target"))?;
            let target = clean(&target).map_err(|_| wrong("a link that leads out of the container"))?;
            let (folder, first) = split(&target).map_err(|_| wrong("a link to the root"))?;
            let folder = open_folder(root, folder)?;
            linkat(&folder, first, &at, name, AtFlags::empty())?;
            return Ok(());
        }
        EntryType::Symlink => {
            let target = entry
                .link_name_bytes()
                .ok_or_else(|| wrong("a symlink without a target"))?;
            let target =
                std::ffi::CString::new(target.into_owned()).map_err(|_| wrong("a NUL in a symlink"))?;
            symlinkat(&target, &at, name)?;
            set_owner_of_name(at.as_fd(), name, owner)?;
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => {
            node(at.as_fd(), name, kind, entry, mode)?;
            set_owner_of_name(at.as_fd(), name, owner)?;
        }
        other => {
            return Err(wrong(&format!(
                "an entry of type {:?}",
                char::from(other.as_byte())
            )));
        }
    }
    Ok(set_time(at.as_fd(), name, mtime)?)
}

fn node<R: Read>(
    at: BorrowedFd<'_>,
    name: &Path,
    kind: EntryType,
    entry: &Entry<'_, R>,
    mode: Mode,
) -> io::Result<()> {
    let number = |given: io::Result<Option<u32>>| given.map(Option::unwrap_or_default);
    let major = number(entry.header().device_major())?;
    let minor = number(entry.header().device_minor())?;
    let (kind, device) = match kind {
        EntryType::Char => (FileType::CharacterDevice, makedev(major, minor)),
        EntryType::Block => (FileType::BlockDevice, makedev(major, minor)),
        _ => (FileType::Fifo, 0),
    };
    // to overlayfs that is something deleted
    if kind == FileType::CharacterDevice && device == 0 {
        return Err(wrong("a device without a number"));
    }
    mknodat(at, name, kind, mode, device)?;
    Ok(())
}

fn make_folder(at: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    match openat(at, name, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(at, name, AtFlags::empty())?,
        other => return other,
    }
    mkdirat(at, name, Mode::from_raw_mode(0o700))?;
    openat(at, name, FOLDER, Mode::empty())
}

/// Removes a name, and a folder with all that is in it.
fn remove(at: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    let folder = openat(at, name, FOLDER, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for inner in names {
        use std::os::unix::ffi::OsStrExt as _;
        remove(
            folder.as_fd(),
            Path::new(std::ffi::OsStr::from_bytes(inner.to_bytes())),
        )?;
    }
    unlinkat(at, name, AtFlags::REMOVEDIR)
}

fn ids((uid, gid): (u64, u64)) -> io::Result<(Option<Uid>, Option<Gid>)> {
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    match (id(uid), id(gid)) {
        (Some(uid), Some(gid)) => Ok((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))),
        _ => Err(wrong("an owner that is none")),
    }
}

fn set_owner(fd: BorrowedFd<'_>, owner: (u64, u64)) -> io::Result<()> {
    let (uid, gid) = ids(owner)?;
    Ok(fchown(fd, uid, gid)?)
}

fn set_owner_of_name(at: BorrowedFd<'_>, name: &Path, owner: (u64, u64)) -> io::Result<()> {
    let (uid, gid) = ids(owner)?;
    Ok(rustix::fs::chownat(
        at,
        name,
        uid,
        gid,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn set_time(at: BorrowedFd<'_>, name: &Path, mtime: u64) -> Result<(), Errno> {
    let time = Timespec {
        tv_sec: i64::try_from(mtime).unwrap_or(0),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

fn set_attributes<R: Read>(fd: BorrowedFd<'_>, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let attributes = pax_attributes(entry)?;
    put_attributes(fd, &attributes)
}

fn put_attributes(fd: BorrowedFd<'_>, attributes: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in attributes {
        fsetxattr(fd, name.as_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Those that a container may give its files itself.
fn pax_attributes<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let Ok(key) = extension.key() else { continue };
        if let Some(name) = key.strip_prefix("SCHILY.xattr.")
            && (name.starts_with("user.") || name == "security.capability")
        {
            all.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(all)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn named(path: &Path, error: &io::Error) -> Error {
    bad(format!("{}: {error}", path.display()))
}

fn broken(error: &io::Error) -> Error {
    bad(format!("rootfs-diff.tar: {error}"))
}

/// Opens a folder of the host as a root.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).io("open", path)?.into())
}
