//! What a folder holds, counted while others change it.
//!
//! The folder is a container's writable layer, so whatever is in it is hostile: no symlink is followed, and
//! folders may be as deep as the container likes. One descriptor moves down and up the tree; on the way up the parent is
//! compared with the one that was left, for a folder can be moved meanwhile.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

/// What stat(2) counts blocks by, whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// What a folder holds, itself included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Bytes on the disk.
    pub(super) bytes: u64,
    /// Files and folders; a file with several names is one.
    pub(super) inodes: u64,
}

struct Level {
    identity: (u64, u64),
    /// Folders in it that are still to be visited.
    folders: Vec<CString>,
}

/// Counts what `root` holds.
///
/// # Errors
/// `root` can't be read, or ESTALE where the tree was moved about under the counting.
pub(super) fn count(root: &Path) -> nix::Result<Held> {
    let mut walk = Walk::default();
    let mut here = openat(AT_FDCWD, root, FLAGS, Mode::empty())?;
    let mut levels = vec![walk.scan(&here)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.folders.pop() {
            match openat(&here, name.as_c_str(), FLAGS, Mode::empty()) {
                Ok(below) => {
                    levels.push(walk.scan(&below)?);
                    here = below;
                }
                // It was removed, or is no folder any more.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(errno),
            }
            continue;
        }
        levels.pop();
        if let Some(parent) = levels.last() {
            here = openat(&here, c"..", FLAGS, Mode::empty())?;
            if identity(&fstat(&here)?) != parent.identity {
                return Err(Errno::ESTALE);
            }
        }
    }
    Ok(walk.held)
}

const FLAGS: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

#[derive(Default)]
struct Walk {
    held: Held,
    /// Files with several names that have been counted.
    seen: HashSet<(u64, u64)>,
}

impl Walk {
    /// Counts a folder and what lies directly in it.
    fn scan(&mut self, folder: &OwnedFd) -> nix::Result<Level> {
        let own = fstat(folder)?;
        self.add(&own);
        let mut folders = Vec::new();
        // A descriptor of its own, for reading a folder moves the position.
        let copy = openat(folder, c".", FLAGS, Mode::empty())?;
        let mut entries = Dir::from_fd(copy)?;
        for entry in entries.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == Some(Type::Directory) {
                folders.push(name.to_owned());
                continue;
            }
            match fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => self.add(&stat),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Level {
            identity: identity(&own),
            folders,
        })
    }

    fn add(&mut self, stat: &FileStat) {
        let is_folder = stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
        if stat.st_nlink > 1 && !is_folder && !self.seen.insert(identity(stat)) {
            return;
        }
        self.held.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK;
        self.held.inodes += 1;
    }
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_of_one_file_count_once_and_links_lead_nowhere() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        let empty = count(root).unwrap();
        assert_eq!(empty.inodes, 1);
        fs::write(root.join("file"), vec![1; 100_000]).unwrap();
        fs::hard_link(root.join("file"), root.join("again")).unwrap();
        symlink("/proc", root.join("link")).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/small"), "x").unwrap();
        let held = count(root).unwrap();
        // the root, one file, one link, two folders, one small file
        assert_eq!(held.inodes, 6);
        assert!(held.bytes >= 100_000 && held.bytes < 200_000, "{held:?}");
    }

    #[test]
    fn depth_costs_no_descriptors() {
        let tmp = tempfile::tempdir().unwrap();
        let mut here: OwnedFd = fs::File::open(tmp.path()).unwrap().into();
        for _ in 0..2_000 {
            nix::sys::stat::mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
            here = openat(&here, "d", FLAGS, Mode::empty()).unwrap();
        }
        assert_eq!(count(tmp.path()).unwrap().inodes, 2_001);
        drop(here);
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        assert_eq!(count(Path::new("/nowhere/at/all")), Err(Errno::ENOENT));
    }
}
