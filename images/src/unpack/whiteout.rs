//! Whiteouts: from the names that layers use to the marks that overlayfs reads.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dirs::{self, DirError, Dirs, Doing};
use super::error::EntryError;
use super::path::LayerPath;

const PREFIX: &[u8] = b".wh.";
const META_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a whiteout entry hides in the layers below.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout<'a> {
    /// Everything in its folder.
    Opaque,
    /// The name beside it.
    Name(&'a [u8]),
    /// Nothing: bookkeeping of a union file system of old.
    Meta,
}

impl<'a> Whiteout<'a> {
    /// `None` if the entry is no whiteout.
    pub(super) fn of(path: &'a LayerPath) -> Result<Option<Whiteout<'a>>, EntryError> {
        let name = path.name();
        if name == OPAQUE {
            return Ok(Some(Whiteout::Opaque));
        }
        if name.starts_with(META_PREFIX) {
            return Ok(Some(Whiteout::Meta));
        }
        // A folder of this kind, with entries below it, hides nothing either.
        let parents = path.parent().split(|&byte| byte == b'/');
        if parents.into_iter().any(|parent| parent.starts_with(META_PREFIX)) {
            return Ok(Some(Whiteout::Meta));
        }
        match name.strip_prefix(PREFIX) {
            None => Ok(None),
            Some(b"" | b"." | b"..") => Err(EntryError::BadWhiteout),
            Some(hidden) => Ok(Some(Whiteout::Name(hidden))),
        }
    }

    /// Makes the mark; says whether it took an inode.
    pub(super) fn apply(&self, dirs: &mut Dirs<'_>, path: &LayerPath) -> Result<bool, DirError> {
        let Whiteout::Name(hidden) = self else {
            if *self == Whiteout::Opaque {
                dirs::set_opaque(dirs.open(path.parent())?.as_fd())?;
            }
            return Ok(false);
        };
        let parent = dirs.open(path.parent())?;
        let made = rustix::fs::mknodat(
            parent.as_fd(),
            *hidden,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        );
        match made {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => hide_below(parent.as_fd(), hidden).map(|()| false),
            Err(errno) => Err(DirError::System("make whiteout", errno)),
        }
    }
}

/// The layer itself holds the name: a folder must not merge with what lies below; anything else hides it anyway.
fn hide_below(parent: std::os::fd::BorrowedFd<'_>, name: &[u8]) -> Result<(), DirError> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).doing("look at")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty()).doing("open folder")?;
    dirs::set_opaque(folder.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let kind = |name: &str| {
            let path = LayerPath::clean(name.as_bytes()).unwrap();
            Whiteout::of(&path).map(|whiteout| match whiteout {
                None => "none".to_owned(),
                Some(Whiteout::Opaque) => "opaque".to_owned(),
                Some(Whiteout::Meta) => "meta".to_owned(),
                Some(Whiteout::Name(name)) => String::from_utf8_lossy(name).into_owned(),
            })
        };
        assert_eq!(kind("a/b").unwrap(), "none");
        assert_eq!(kind("a/.wh.b").unwrap(), "b");
        assert_eq!(kind("a/.wh..b").unwrap(), ".b");
        assert_eq!(kind("a/.wh..wh..opq").unwrap(), "opaque");
        assert_eq!(kind(".wh..wh.plnk/1.2").unwrap(), "meta");
        for bad in [".wh.", "a/.wh..", "a/.wh..."] {
            assert_eq!(kind(bad), Err(EntryError::BadWhiteout), "{bad}");
        }
    }
}
