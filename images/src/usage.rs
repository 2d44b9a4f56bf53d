//! What a container's writable layer takes of the disk.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{IoContext as _, Result};
use crate::image::Usage;

/// stat(2) counts blocks of this size, whatever the file system's own are.
const STAT_BLOCK: u64 = 512;
/// Folders deeper than this are not looked into: each level holds two descriptors while it is walked.
const MAX_DEPTH: usize = 200;
/// A meter may spend one part in so many of its time with walking.
const SHARE: u32 = 20;

/// Bytes and inodes of everything below `upper`, and of itself. Only what the container changed lies there, so the
/// walk takes as long as there are changes, however large the image is. What vanishes meanwhile does not count. No
/// link is followed. Blocking.
///
/// # Errors
/// The folder can't be read.
pub fn usage_of(upper: &Path) -> Result<Usage> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(upper, flags, Mode::empty()).at("open", upper)?;
    let mut walk = Walk::default();
    let stat = rustix::fs::fstat(&folder).at("look at", upper)?;
    walk.count(&stat);
    walk.folder(&folder, 0).at("read", upper)?;
    Ok(walk.usage)
}

#[derive(Default)]
struct Walk {
    usage: Usage,
    /// Inodes with several names, which count once.
    linked: HashSet<(u64, u64)>,
}

impl Walk {
    fn count(&mut self, stat: &Stat) {
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_folder && stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.usage.inodes += 1;
        self.usage.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * STAT_BLOCK;
    }

    fn folder(&mut self, folder: &OwnedFd, depth: usize) -> Result<(), Errno> {
        let mut entries = Dir::read_from(folder)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth < MAX_DEPTH {
                match open_below(folder.as_fd(), name) {
                    Ok(below) => self.folder(&below, depth + 1)?,
                    // It was removed, or something else took its place.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn open_below(folder: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Answers how much a writable layer takes, and bounds what asking often costs: a layer that took long to walk is not
/// walked again before twenty times that long has passed. In between the last answer is given with its age.
#[derive(Debug, Default)]
pub struct UsageMeter {
    last: Mutex<Option<Measured>>,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    usage: Usage,
    at: Instant,
    took: Duration,
}

impl UsageMeter {
    /// The usage, and how long ago it was measured. Blocking.
    ///
    /// # Errors
    /// Those of [`usage_of`].
    pub fn usage(&self, upper: &Path) -> Result<(Usage, Duration)> {
        // Whoever asks while another walks waits for that answer instead of walking as well.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.filter(|known| known.at.elapsed() < known.took * SHARE) {
            return Ok((known.usage, known.at.elapsed()));
        }
        let begin = Instant::now();
        let usage = usage_of(upper)?;
        let at = Instant::now();
        *last = Some(Measured {
            usage,
            at,
            took: at - begin,
        });
        Ok((usage, Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn counts_what_is_there_once() {
        let temp = tempfile::tempdir().unwrap();
        let upper = temp.path().join("upper");
        fs::create_dir_all(upper.join("a/b")).unwrap();
        fs::write(upper.join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(upper.join("a/file"), upper.join("a/b/other")).unwrap();
        // Neither followed nor counted as what they point to.
        fs::write(temp.path().join("outside"), vec![1; 1_000_000]).unwrap();
        symlink("../outside", upper.join("link")).unwrap();
        symlink("..", upper.join("up")).unwrap();
        let blocks = |name: &str| upper.join(name).symlink_metadata().unwrap().blocks() * 512;
        let bytes = ["", "a", "a/b", "a/file", "link", "up"]
            .into_iter()
            .map(blocks)
            .sum();
        assert_eq!(usage_of(&upper).unwrap(), Usage { bytes, inodes: 6 });
    }

    #[test]
    fn deep_folders_end_the_walk_and_not_the_process() {
        let temp = tempfile::tempdir().unwrap();
        let mut at = rustix::fs::open(temp.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..MAX_DEPTH + 50 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        assert_eq!(usage_of(temp.path()).unwrap().inodes, MAX_DEPTH as u64 + 2);
    }

    #[test]
    fn a_meter_sees_changes() {
        let temp = tempfile::tempdir().unwrap();
        let meter = UsageMeter::default();
        let (first, age) = meter.usage(temp.path()).unwrap();
        assert_eq!((first.inodes, age), (1, Duration::ZERO));
        fs::write(temp.path().join("new"), "x").unwrap();
        // The first walk is over at once, so its answer is soon too old.
        let seen = (0..10_000).any(|_| {
            std::thread::yield_now();
            meter.usage(temp.path()).unwrap().0.inodes == 2
        });
        assert!(seen);
    }
}
