//! What a container's writable layer takes of the disk, counted while the container changes it.
//!
//! Only what the container changed lies there, so counting takes as long as there are changes, however large the image is.
//! Whatever is in it is hostile: no symlink is followed, and folders may be as deep as the container likes. One
//! descriptor moves down and up the tree; on the way up the parent is compared with the one that was left, for a folder
//! can be moved meanwhile.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{IoContext as _, Result};
use crate::image::Usage;

/// stat(2) counts blocks of this size, whatever the file system's own are.
const STAT_BLOCK: u64 = 512;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Bytes and inodes of everything below `upper`, and of itself. A file with several names counts once, and what vanishes
/// meanwhile not at all. Blocking.
///
/// # Errors
/// The folder can't be read, or ESTALE where the tree was moved about under the counting.
pub fn usage_of(upper: &Path) -> Result<Usage> {
    count(upper).at("count what is in", upper)
}

struct Level {
    identity: (u64, u64),
    /// Folders in it that are still to be visited.
    folders: Vec<CString>,
}

fn count(upper: &Path) -> Result<Usage, Errno> {
    let mut walk = Walk::default();
    let mut here = rustix::fs::openat(CWD, upper, FLAGS, Mode::empty())?;
    let mut levels = vec![walk.scan(&here)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.folders.pop() {
            match rustix::fs::openat(&here, name, FLAGS, Mode::empty()) {
                Ok(below) => {
                    levels.push(walk.scan(&below)?);
                    here = below;
                }
                // It was removed, or is no folder any more.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno),
            }
            continue;
        }
        levels.pop();
        if let Some(parent) = levels.last() {
            here = rustix::fs::openat(&here, c"..", FLAGS, Mode::empty())?;
            if identity(&rustix::fs::fstat(&here)?) != parent.identity {
                return Err(Errno::STALE);
            }
        }
    }
    Ok(walk.usage)
}

#[derive(Default)]
struct Walk {
    usage: Usage,
    /// Files with several names that have been counted.
    linked: HashSet<(u64, u64)>,
}

impl Walk {
    /// Counts a folder and what lies directly in it.
    fn scan(&mut self, folder: &OwnedFd) -> Result<Level, Errno> {
        let own = rustix::fs::fstat(folder)?;
        self.add(&own);
        let mut folders = Vec::new();
        let mut entries = Dir::read_from(folder)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                folders.push(name.to_owned());
                continue;
            }
            match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.add(&stat),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Level {
            identity: identity(&own),
            folders,
        })
    }

    fn add(&mut self, stat: &Stat) {
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_nlink > 1 && !is_folder && !self.linked.insert(identity(stat)) {
            return;
        }
        self.usage.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * STAT_BLOCK;
        self.usage.inodes += 1;
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::error::Error;

    #[test]
    fn names_of_one_file_count_once_and_links_lead_nowhere() {
        let temp = tempfile::tempdir().unwrap();
        let upper = temp.path().join("upper");
        fs::create_dir_all(upper.join("a/b")).unwrap();
        assert_eq!(usage_of(&upper).unwrap().inodes, 3);
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
    fn depth_costs_no_descriptors() {
        let temp = tempfile::tempdir().unwrap();
        let mut here = rustix::fs::openat(CWD, temp.path(), FLAGS, Mode::empty()).unwrap();
        for _ in 0..2_000 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", FLAGS, Mode::empty()).unwrap();
        }
        assert_eq!(usage_of(temp.path()).unwrap().inodes, 2_001);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let error = usage_of(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
