//! `linux.maskedPaths` and `linux.readonlyPaths`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::{SFlag, fstat};

use super::pivot::propagate;
use super::resolve::{is_kind, open_in_root, open_path};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{FsContext, MountAttr, attach, attr, clone_tree, set_attr};

const HERE: &str = "";

/// What covers masked paths: the host's /dev/null, and one empty read-only folder for all of them.
pub(crate) struct Masks {
    null: Cover,
    folder: Option<Cover>,
}

/// A mount that covers one path, and clones of it the others. Only an attached mount can be cloned (before
/// Linux 6.15), so the first path gets the mount itself.
struct Cover {
    mount: OwnedFd,
    attached: bool,
}

impl Cover {
    fn put(&mut self, target: BorrowedFd<'_>) -> nix::Result<()> {
        if self.attached {
            let clone = clone_tree(self.mount.as_fd(), Path::new(HERE), false)?;
            return attach(clone.as_fd(), target);
        }
        attach(self.mount.as_fd(), target)?;
        self.attached = true;
        Ok(())
    }
}

impl Masks {
    /// Takes the covers; to be done while the host's /dev can still be seen, so that nothing in the container's own
    /// file system can take the place of /dev/null.
    pub(crate) fn prepare() -> Result<Self> {
        let path = Path::new("/dev/null");
        let null = open_path(path)?;
        let st = fstat(&null).path("stat", path)?;
        if !is_kind(&st, SFlag::S_IFCHR) || st.st_rdev != nix::sys::stat::makedev(1, 3) {
            return Err(Error::io("mask with", path, Errno::ENODEV));
        }
        let mount = clone_tree(null.as_fd(), Path::new(HERE), false).path("clone mount of", path)?;
        propagate(mount.as_fd(), MsFlags::MS_PRIVATE).path("make private the mount of", path)?;
        Ok(Self {
            null: Cover {
                mount,
                attached: false,
            },
            folder: None,
        })
    }

    /// Covers one path; one that doesn't exist needs no cover.
    pub(crate) fn cover(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let Some(target) = open_if_there(root, "linux.maskedPaths", path)? else {
            return Ok(());
        };
        if is_kind(&fstat(&target).path("stat masked path", path)?, SFlag::S_IFDIR) {
            let folder = match &mut self.folder {
                Some(folder) => folder,
                none => none.insert(Cover {
                    mount: empty_folder().path("mask", path)?,
                    attached: false,
                }),
            };
            folder.put(target.as_fd()).path("mask", path)
        } else {
            self.null.put(target.as_fd()).path("mask", path)
        }
    }
}

fn empty_folder() -> nix::Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.set("mode", "0755")?;
    context.set("nr_inodes", "2")?;
    context.set("size", "4k")?;
    context.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
}

/// Makes a path, and what is mounted below it, read-only. One that doesn't exist is passed over.
pub(crate) fn make_readonly(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let Some(target) = open_if_there(root, "linux.readonlyPaths", path)? else {
        return Ok(());
    };
    let cover = clone_tree(target.as_fd(), Path::new(HERE), true).path("make read-only", path)?;
    let attrs = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    set_attr(cover.as_fd(), &attrs, true).path("make read-only", path)?;
    attach(cover.as_fd(), target.as_fd()).path("make read-only", path)
}

fn open_if_there(root: BorrowedFd<'_>, field: &str, path: &Path) -> Result<Option<OwnedFd>> {
    match open_in_root(root, path, OFlag::O_PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR)) => Ok(None),
        // such a link leads anywhere, also out of the container, and somewhere else for each process
        Err(e) if e.errno() == Some(Errno::ELOOP) => Err(Error::invalid(
            field,
            format!("{path:?} leads over a link of procfs to what a process has open, or in a circle"),
        )),
        Err(e) => Err(e),
    }
}
