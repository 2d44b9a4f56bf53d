//! The narrow door between the loop and the kernel: what the monitor needs done to containers and processes.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use crate::checkpoint::Restore;
use crate::container::InitStdio;
use crate::error::Result;
use crate::protocol::{CreateContainer, ExecRequest, SandboxSetup};

/// A container whose init waits.
#[derive(Debug)]
pub(crate) struct Prepared<C> {
    pub(crate) pid: i32,
    /// The master of its terminal, which takes the place of the pipes.
    pub(crate) console: Option<OwnedFd>,
    pub(crate) container: C,
}

/// A further process that runs, or has ended since it was executed.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// The master of its terminal.
    pub(crate) console: Option<OwnedFd>,
    /// How it has ended.
    pub(crate) ended: Option<Ending>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Code(i32),
    Signal(i32),
}

/// Something in the making, by other processes. It may take for ever: a mount can hang.
pub(crate) trait Job {
    /// What is made.
    type Output;

    /// Readable when there is something to poll for, as long as it is listening.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Whether that is still so. Afterwards only ends of children bring it further.
    fn is_listening(&self) -> bool;

    /// A child of the monitor has ended, whichever.
    fn child_ended(&mut self, pid: i32, ending: Ending);

    /// Goes as far as it can. True: it is over.
    fn poll(&mut self) -> bool;

    /// What came of it; a failure has left nothing behind.
    fn finish(self) -> Result<Self::Output>;

    /// Gives it up. It may still take for ever until that is over.
    fn kill(&mut self);
}

/// What the loop asks for. Every call returns within milliseconds.
pub(crate) trait Backend {
    /// What is kept of a container.
    type Container;

    /// A container in the making.
    type Making: Job<Output = Prepared<Self::Container>>;

    /// A further process in the making.
    type Entering: Job<Output = Started>;

    /// Makes and pins the pod's namespaces; the pid of the sandbox's init.
    fn setup_sandbox(&mut self, dir: &Path, setup: &SandboxSetup) -> Result<Option<i32>>;

    /// Begins to make a container up to the point where its init waits.
    /// With `from`, its processes are those of a checkpoint.
    fn prepare(
        &mut self,
        request: &CreateContainer,
        from: Option<&Restore>,
        stdio: InitStdio,
    ) -> Result<Self::Making>;

    /// Lets the init go.
    fn start(&mut self, container: &mut Self::Container) -> Result<()>;

    /// Readable when [`Backend::poll_start`] has something.
    fn start_fd<'a>(&self, container: &'a Self::Container) -> BorrowedFd<'a>;

    /// Whether execve has succeeded or failed, once it has.
    fn poll_start(&mut self, container: &mut Self::Container) -> Option<Result<()>>;

    /// Begins to run a further process. With `process.terminal` the streams aren't used.
    fn exec(
        &mut self,
        container: &Self::Container,
        request: &ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<Self::Entering>;

    /// Sends the init a signal, without a chance of hitting another process.
    fn signal(&mut self, container: &Self::Container, signal: i32) -> Result<()>;

    /// Sends every process of the container a signal.
    fn signal_all(&mut self, container: &Self::Container, signal: i32) -> Result<()>;

    /// Whether the kernel has killed a process of the container for lack of memory, whose init has ended.
    fn oom_killed(&mut self, container: &Self::Container, ending: Ending) -> bool;

    /// Kills what is left and removes the cgroup.
    fn remove(&mut self, container: &Self::Container) -> Result<()>;

    /// SIGKILLs a process and its descendants.
    fn kill_tree(&mut self, pid: i32);

    /// Readable when [`Backend::reap`] has something.
    fn exits(&self) -> BorrowedFd<'_>;

    /// The next child or orphan that has ended, each once; quiets [`Backend::exits`] when there is none.
    fn reap(&mut self) -> Option<(i32, Ending)>;
}
