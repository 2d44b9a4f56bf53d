//! Something in the making that a test finishes.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use super::{FakeContainer, Shared};
use crate::error::{Error, Result};
use crate::monitor::backend::{Ending, Job, Prepared, Started};

/// Something in the making, until its gate is opened.
#[derive(Debug)]
pub(crate) struct FakeJob<T> {
    pub(super) gate: UnixStream,
    pub(super) made: Result<T>,
    pub(super) ended: Option<Ending>,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) is_listening: bool,
}

/// What a job makes is a process.
pub(crate) trait Made {
    fn pid(&self) -> i32;
    fn set_ended(&mut self, ending: Option<Ending>);
}

impl Made for Started {
    fn pid(&self) -> i32 {
        self.pid
    }

    fn set_ended(&mut self, ending: Option<Ending>) {
        self.ended = ending;
    }
}

impl Made for Prepared<FakeContainer> {
    fn pid(&self) -> i32 {
        self.pid
    }

    fn set_ended(&mut self, _: Option<Ending>) {}
}

impl<T: Made> Job for FakeJob<T> {
    type Output = T;

    fn fd(&self) -> BorrowedFd<'_> {
        self.gate.as_fd()
    }

    fn is_listening(&self) -> bool {
        self.is_listening
    }

    fn child_ended(&mut self, pid: i32, ending: Ending) {
        if self.made.as_ref().is_ok_and(|made| made.pid() == pid) {
            self.ended = Some(ending);
        }
    }

    /// A killed one is over when its gate is opened, too: as a process that hangs in the kernel.
    fn poll(&mut self) -> bool {
        (&self.gate).read(&mut [0]).is_ok()
    }

    fn finish(self) -> Result<T> {
        let mut made = self.made?;
        made.set_ended(self.ended);
        Ok(made)
    }

    fn kill(&mut self) {
        if let Ok(made) = &self.made {
            let mut shared = self.shared.lock().unwrap();
            shared.calls.push("kill job".to_owned());
            shared.pids.retain(|_, pid| *pid != made.pid());
        }
        self.made = Err(Error::sys("killed", nix::errno::Errno::EINTR));
    }
}
