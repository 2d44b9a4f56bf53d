//! Network namespaces.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, alive as long as this value.
pub(crate) struct Ns(File);

impl Ns {
    pub(crate) fn new() -> Ns {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare: needs root");
            Ns::own()
        });
        thread.join().expect("thread")
    }

    /// The calling thread's.
    pub(crate) fn own() -> Ns {
        Ns(File::open("/proc/thread-self/ns/net").expect("open"))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `work` on a thread inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("setns");
                work()
            });
            inside.join().expect("thread")
        })
    }

    pub(crate) fn shell(&self, script: &str) {
        let status = self.run(|| Command::new("sh").args(["-ec", script]).status().expect("sh"));
        assert!(status.success(), "{script}");
    }
}
