//! `tmpcopyup`: a new tmpfs begins with what it is going to cover.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat, mknodat,
};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use super::resolve::is_kind;
use crate::error::{Context, Error, Result};

/// Folders within folders that are copied; deeper than any real one, and the copy holds two descriptors for each.
const MAX_DEPTH: u32 = 128;

const HERE: &str = ".";

/// Copies a folder's content with owners and modes; the folder's own attributes, too. Nothing is followed.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let open = |fd| {
        openat(
            fd,
            HERE,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
    };
    copy_folder(
        open(from).call("open folder to copy")?,
        &open(to).call("open tmpfs")?,
        MAX_DEPTH,
    )
}

fn copy_folder(from: OwnedFd, to: &OwnedFd, depth: u32) -> Result<()> {
    if depth == 0 {
        return Err(Error::sys(
            "tmpcopyup: folders nest too deep",
            nix::errno::Errno::ELOOP,
        ));
    }
    let st = fstat(&from).call("stat folder to copy")?;
    let mut folder = Dir::from_fd(from).call("list folder to copy")?;
    let mut names = Vec::new();
    for entry in folder.iter() {
        names.push(entry.call("list folder to copy")?.file_name().to_owned());
    }
    for name in names.iter().filter(|n| !matches!(n.to_bytes(), b"." | b"..")) {
        copy_entry(folder.as_fd(), to.as_fd(), name, depth).map_err(|e| within(name, e))?;
    }
    fchown(to, Some(Uid::from_raw(st.st_uid)), Some(Gid::from_raw(st.st_gid))).call("set owner of copy")?;
    fchmod(to, mode_of(&st)).call("set mode of copy")
}

fn within(name: &CStr, error: Error) -> Error {
    match error {
        Error::Sys { call, errno } => Error::io(call, Path::new(&*name.to_string_lossy()), errno),
        other => other,
    }
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let st = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).call("stat")?;
    let base = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    if is_kind(&st, SFlag::S_IFDIR) {
        mkdirat(to, name, Mode::S_IRWXU).call("create folder")?;
        let open = |fd| {
            openat(
                fd,
                name,
                base | OFlag::O_RDONLY | OFlag::O_DIRECTORY,
                Mode::empty(),
            )
        };
        return copy_folder(open(from).call("open")?, &open(to).call("open")?, depth - 1);
    }
    if is_kind(&st, SFlag::S_IFREG) {
        let source = openat(from, name, base | OFlag::O_RDONLY, Mode::empty()).call("open")?;
        let flags = base | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let copy = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).call("create")?;
        io::copy(&mut File::from(source), &mut File::from(copy)).call("copy")?;
    } else if is_kind(&st, SFlag::S_IFLNK) {
        symlinkat(readlinkat(from, name).call("read link")?.as_os_str(), to, name).call("create link")?;
    } else {
        let kind = SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits());
        mknodat(to, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, st.st_rdev).call("make node")?;
    }
    let (uid, gid) = (Uid::from_raw(st.st_uid), Gid::from_raw(st.st_gid));
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).call("set owner")?;
    match is_kind(&st, SFlag::S_IFLNK) {
        true => Ok(()),
        // after the owner, the change of which takes set-id bits away; it is no symlink, for it was made just now
        false => fchmodat(to, name, mode_of(&st), FchmodatFlags::FollowSymlink).call("set mode"),
    }
}

fn mode_of(st: &FileStat) -> Mode {
    Mode::from_bits_truncate(st.st_mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::set_permissions(from.join("a/b/file"), PermissionsExt::from_mode(0o4711)).unwrap();
        fs::set_permissions(from.join("a"), PermissionsExt::from_mode(0o1775)).unwrap();
        symlink("/etc/shadow", from.join("link")).unwrap();
        nix::unistd::mkfifo(&from.join("fifo"), Mode::S_IRUSR).unwrap();
        std::os::unix::fs::chown(from.join("a"), Some(7), Some(8)).unwrap();
        let open = |path| File::open(path).unwrap();
        copy(open(&from).as_fd(), open(&to).as_fd()).unwrap();
        assert_eq!(fs::read(to.join("a/b/file")).unwrap(), b"text");
        assert_eq!(fs::metadata(to.join("a/b/file")).unwrap().mode() & 0o7777, 0o4711);
        let a = fs::metadata(to.join("a")).unwrap();
        assert_eq!((a.mode() & 0o7777, a.uid(), a.gid()), (0o1775, 7, 8));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/shadow"));
        assert!(fs::symlink_metadata(to.join("fifo")).unwrap().mode() & 0o170_000 == 0o010_000);
    }
}
