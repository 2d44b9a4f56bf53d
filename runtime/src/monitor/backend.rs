//! The narrow door between the loop and the kernel: what the monitor needs done to containers and processes.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

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

/// A further process that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// The master of its terminal.
    pub(crate) console: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Code(i32),
    Signal(i32),
}

/// What the loop asks for. Every call returns within milliseconds.
pub(crate) trait Backend {
    /// What is kept of a container.
    type Container;

    /// Makes and pins the pod's namespaces; the pid of the sandbox's init.
    fn setup_sandbox(&mut self, dir: &Path, setup: &SandboxSetup) -> Result<Option<i32>>;

    /// Makes a container up to the point where its init waits. A failure leaves nothing behind.
    fn prepare(
        &mut self,
        dir: &Path,
        request: &CreateContainer,
        stdio: InitStdio,
    ) -> Result<Prepared<Self::Container>>;

    /// Lets the init go; returns once execve has succeeded or failed.
    fn start(&mut self, container: &mut Self::Container) -> Result<()>;

    /// Runs a further process; returns once execve has succeeded. With `process.terminal` the streams aren't used.
    fn exec(
        &mut self,
        container: &Self::Container,
        request: &ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<Started>;

    /// Sends the init a signal, without a chance of hitting another process.
    fn signal(&mut self, container: &Self::Container, signal: i32) -> Result<()>;

    /// Sends every process of the container's cgroup a signal.
    fn signal_all(&mut self, container: &Self::Container, signal: i32) -> Result<()>;

    /// Whether the kernel has killed a process of the container for lack of memory.
    fn oom_killed(&mut self, container: &Self::Container) -> bool;

    /// Kills what is left and removes the cgroup.
    fn remove(&mut self, container: &Self::Container) -> Result<()>;

    /// SIGKILLs a process and its descendants.
    fn kill_tree(&mut self, pid: i32);

    /// Readable when [`Backend::reap`] has something.
    fn exits(&self) -> BorrowedFd<'_>;

    /// The next child or orphan that has ended, each once; quiets [`Backend::exits`] when there is none.
    fn reap(&mut self) -> Option<(i32, Ending)>;
}
