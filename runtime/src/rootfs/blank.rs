//! A mount namespace with nothing in it, for containers to start from.
//!
//! A new mount namespace is a copy of its maker's, and the host's holds some mounts for every pod: copying it, only to
//! detach all of it, takes some 3 µs a mount on an idle machine. Whoever makes many containers makes a blank one once, and
//! has them copy that. All that such a container shows of the host's must be opened before.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use super::pivot::{isolate_mounts, pivot};
use super::resolve::{open_path, open_proc};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{FsContext, attach, attr};
use crate::sys::process::{namespace_kind, setns};

/// A mount namespace that holds an empty, read-only root alone.
#[derive(Debug, Clone)]
pub struct BlankMounts(Arc<OwnedFd>);

impl BlankMounts {
    /// Makes one, by a thread that ends in it. None on kernels that can't make an overlay before it is attached, for which
    /// it would save nothing.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn make() -> Result<Option<Self>> {
        if !makes_layers_singly() {
            return Ok(None);
        }
        let made = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, || {
                let proc = open_proc()?;
                enter_blank_root()?;
                let path = Path::new("thread-self/ns/mnt");
                openat(&proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).path("open", path)
            });
            thread.map(std::thread::ScopedJoinHandle::join)
        });
        match made {
            Ok(Ok(made)) => Ok(Some(Self(Arc::new(made?)))),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(e) => Err(Error::io("start", "a thread", e)),
        }
    }

    /// Takes a descriptor for one, if it is of a mount namespace.
    pub(crate) fn take(fd: OwnedFd) -> Option<Self> {
        let kind = namespace_kind(fd.as_fd()).ok()?;
        (kind == CloneFlags::CLONE_NEWNS.bits()).then(|| Self(Arc::new(fd)))
    }

    /// Gives the calling process, which has one thread, a copy as its mount namespace. One who may not enter it gets a
    /// copy of the host's, which serves as well.
    pub(crate) fn enter_copy(&self) -> Result<()> {
        match setns(self.0.as_fd(), CloneFlags::CLONE_NEWNS.bits()) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(e) => return Err(e).call("join blank mount namespace"),
        }
        unshare(CloneFlags::CLONE_NEWNS).call("unshare mount namespace")
    }
}

impl AsFd for BlankMounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PartialEq for BlankMounts {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_raw_fd() == other.0.as_raw_fd()
    }
}

impl Eq for BlankMounts {}

/// Since Linux 6.8.
fn makes_layers_singly() -> bool {
    FsContext::open("overlay").is_ok_and(|overlay| overlay.set("lowerdir+", "/").is_ok())
}

/// Gives the caller's thread a mount namespace of its own with an empty root, in which nothing can be made.
pub(crate) fn enter_blank_root() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).call("unshare mount namespace")?;
    isolate_mounts(false)?;
    let tmpfs = FsContext::open("tmpfs")
        .and_then(|c| c.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC))
        .call("make empty root")?;
    // on the root itself: any other folder may be out of a user namespace's reach
    attach(tmpfs.as_fd(), open_path(Path::new("/"))?.as_fd()).call("mount empty root")?;
    pivot(tmpfs.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Forked, exit_now, fork, wait};
    use nix::sys::wait::WaitStatus;

    #[test]
    fn a_copy_holds_an_empty_root_alone() {
        let Some(blank) = BlankMounts::make().unwrap() else {
            return; // none is made on this kernel
        };
        let child = match fork().unwrap() {
            Forked::Parent(pid) => pid,
            Forked::Child(_child) => {
                let proc = open_proc();
                let entered = blank.enter_copy();
                let list = std::fs::read_dir("/").map(Iterator::count);
                let made = std::fs::create_dir("/x");
                exit_now(match (proc, entered, list, made) {
                    (Ok(_), Ok(()), Ok(0), Err(e)) if e.raw_os_error() == Some(libc::EROFS) => 0,
                    _ => 1,
                });
            }
        };
        assert!(matches!(wait(child), Ok(WaitStatus::Exited(_, 0))));
    }

    #[test]
    fn only_mount_namespaces_are_taken() {
        let open = |path: &str| OwnedFd::from(std::fs::File::open(path).unwrap());
        assert!(BlankMounts::take(open("/dev/null")).is_none());
        assert!(BlankMounts::take(open("/proc/self/ns/uts")).is_none());
        assert!(BlankMounts::take(open("/proc/self/ns/mnt")).is_some());
    }
}
