//! The folders of a layer while it is unpacked: every path is resolved by the kernel beneath the layer's root.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::EntryError;

/// Open folders kept for the next entries, which mostly lie in the same few.
const KEPT: usize = 32;
/// How often a resolution is repeated that a rename elsewhere in the system disturbed (openat2(2), EAGAIN).
const RETRIES: usize = 128;
/// The attribute that marks a folder as opaque (overlayfs.rst).
pub(super) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Why an entry can't be made; its name is added where it is known.
#[derive(Debug)]
pub(super) enum DirError {
    Entry(EntryError),
    System(&'static str, Errno),
    Write(std::io::Error),
    /// More content than allowed.
    TooLarge,
    /// The archive itself can't be read on.
    Stream(std::io::Error),
}

impl From<EntryError> for DirError {
    fn from(error: EntryError) -> Self {
        DirError::Entry(error)
    }
}

/// Gives a system call's result its verb.
pub(super) trait Doing<T> {
    fn doing(self, verb: &'static str) -> Result<T, DirError>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, verb: &'static str) -> Result<T, DirError> {
        self.map_err(|errno| DirError::System(verb, errno))
    }
}

/// The layer's root and the folders opened last.
pub(super) struct Dirs<'a> {
    root: BorrowedFd<'a>,
    kept: VecDeque<(Vec<u8>, Rc<OwnedFd>)>,
    /// Folders that no entry has named yet, made on the way.
    pub(super) implicit: BTreeSet<Vec<u8>>,
    /// An entry has replaced an earlier one.
    pub(super) replaced: bool,
}

/// A folder that is held open.
pub(super) enum Dir<'a> {
    Root(BorrowedFd<'a>),
    Below(Rc<OwnedFd>),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Dir::Root(fd) => *fd,
            Dir::Below(fd) => fd.as_fd(),
        }
    }
}

impl<'a> Dirs<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Dirs<'a> {
        Dirs {
            root,
            kept: VecDeque::with_capacity(KEPT),
            implicit: BTreeSet::new(),
            replaced: false,
        }
    }

    /// Opens the folder at a cleaned path and makes it and its parents where they are missing.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<Dir<'a>, DirError> {
        if path.is_empty() {
            return Ok(Dir::Root(self.root));
        }
        if let Some((_, fd)) = self.kept.iter().find(|(kept, _)| kept == path) {
            return Ok(Dir::Below(Rc::clone(fd)));
        }
        let fd = match self.open_existing(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_all(path)?,
            other => other.map_err(folder_error)?,
        };
        let fd = Rc::new(fd);
        self.keep(path, Rc::clone(&fd));
        Ok(Dir::Below(fd))
    }

    /// Opens the folder at a cleaned path; makes nothing.
    pub(super) fn open_existing(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        resolve(self.root, path, flags)
    }

    /// Forgets what is open: a folder was replaced.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    fn keep(&mut self, path: &[u8], fd: Rc<OwnedFd>) {
        if self.kept.len() == KEPT {
            self.kept.pop_back();
        }
        self.kept.push_front((path.to_vec(), fd));
    }

    /// Makes the folders of a path that are missing, from the lowest that is there on.
    fn make_all(&mut self, path: &[u8]) -> Result<OwnedFd, DirError> {
        let mut missing = vec![path.len()];
        let mut above = path;
        let mut at = loop {
            let Some(end) = above.iter().rposition(|&byte| byte == b'/') else {
                break Dir::Root(self.root);
            };
            above = &path[..end];
            if let Some((_, fd)) = self.kept.iter().find(|(kept, _)| kept == above) {
                break Dir::Below(Rc::clone(fd));
            }
            match self.open_existing(above) {
                Ok(fd) => break Dir::Below(Rc::new(fd)),
                Err(Errno::NOENT | Errno::NOTDIR) => missing.push(end),
                Err(errno) => return Err(folder_error(errno)),
            }
        };
        let mut made = None;
        for end in missing.into_iter().rev() {
            let name = path[..end]
                .rsplit(|&byte| byte == b'/')
                .next()
                .unwrap_or_default();
            if self.make_one(at.as_fd(), name)? {
                self.implicit.insert(path[..end].to_vec());
            }
            let fd = Rc::new(self.open_existing(&path[..end]).map_err(folder_error)?);
            at = Dir::Below(Rc::clone(&fd));
            made = Some(fd);
        }
        drop(at);
        let made = made.and_then(|fd| Rc::try_unwrap(fd).ok());
        made.ok_or(DirError::Entry(EntryError::ParentNotFolder))
    }

    /// Makes one implicit folder unless there is one. A whiteout in its place becomes an opaque folder: it hides
    /// what lies below, and now something new lies there. Says whether the folder is new.
    fn make_one(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, DirError> {
        let made = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) if is_whiteout(parent, name)? => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty()).doing("remove whiteout")?;
                rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).doing("make folder")?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).doing("open folder")?;
                set_opaque(fd.as_fd())?;
                Ok(())
            }
            other => other,
        };
        match made {
            Ok(()) => {
                // The daemon's umask must not decide what an image's folders look like.
                rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())
                    .doing("set mode of folder")?;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(DirError::System("make folder", errno)),
        }
    }
}

/// openat2(2) beneath `root`: relative links inside are followed, nothing leads out.
pub(super) fn resolve(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RETRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn folder_error(errno: Errno) -> DirError {
    match errno {
        Errno::XDEV | Errno::LOOP => EntryError::EscapesBySymlink.into(),
        Errno::NOTDIR | Errno::NOENT => EntryError::ParentNotFolder.into(),
        errno => DirError::System("open folder", errno),
    }
}

/// Whether `name` is overlayfs's own whiteout, a character device 0:0.
pub(super) fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, DirError> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).doing("look at")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// Hides what lower layers hold in this folder.
pub(super) fn set_opaque(folder: BorrowedFd<'_>) -> Result<(), DirError> {
    rustix::fs::fsetxattr(folder, OPAQUE_XATTR, b"y", rustix::fs::XattrFlags::empty()).doing("mark as opaque")
}
