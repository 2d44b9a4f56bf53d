//! Work inside another network namespace.
//!
//! A thread belongs to a namespace; a socket stays in the one where it was opened. So a short-lived thread
//! enters the pod's namespace and does there what must be done there. The callers' threads never change theirs.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};

use crate::error::{Error, IoContext, Result};
use crate::rt::{Route, link};

/// The file system of namespace files, `NSFS_MAGIC`.
const NSFS: FsType = FsType(0x6e73_6673);

/// A network namespace, held open.
#[derive(Debug)]
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// Opens a namespace by its path, such as `/run/netns/a` or `/proc/1/ns/net`.
    pub(crate) fn open(path: &Path) -> Result<Netns> {
        let bad = |reason: String| Error::Netns {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(|error| bad(error.to_string()))?;
        let kind = fstatfs(&file).io("stat", path)?.filesystem_type();
        if kind != NSFS {
            return Err(bad("not a namespace".into()));
        }
        Ok(Netns(file.into()))
    }

    /// The calling thread's own.
    pub(crate) fn own() -> Result<Netns> {
        Netns::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Whether it is the calling thread's own.
    pub(crate) fn is_own(&self) -> Result<bool> {
        let own = Netns::own()?;
        let path = Path::new("network namespace");
        let (a, b) = (
            nix::sys::stat::fstat(&self.0).io("stat", path)?,
            nix::sys::stat::fstat(&own.0).io("stat", path)?,
        );
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).io("enter", Path::new("network namespace"))?;
            work()
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)
            .io("start", Path::new("namespace thread"))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Brings the loopback interface of a namespace up.
///
/// # Errors
/// [`Error::Netns`] if `netns` isn't the path of a namespace; what the kernel refuses.
pub fn loopback_up(netns: &Path) -> Result<()> {
    let namespace = Netns::open(netns)?;
    namespace.run(|| Route::open()?.run(&[link::set_up(link::Target::Index(link::LOOPBACK))]))
}
