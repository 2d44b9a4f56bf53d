//! The daemon's side of a pod's monitor: requests as async calls, events as a stream.
//!
//! ```text
//!   call ──▶ pending[seq] ─┐                         ┌─▶ pending[seq] ──▶ call returns
//!            queue ──▶ writer task ──▶ socket ──▶ reader task
//!                                                    ├─▶ exits[exec_id] ──▶ ExecHandle::wait
//!                                                    └─▶ Events
//! ```
//!
//! Whole frames pass the queue, and replies are told apart by their number: a call that is dropped half-way leaves
//! the connection in order. When the monitor is gone, every call that waits returns [`Error::MonitorGone`].

mod checkpoint;
mod exec;
mod link;
mod spawn;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

pub use checkpoint::Dumped;
pub use exec::ExecHandle;
pub use link::Events;
pub use spawn::SpawnOptions;

use link::Link;

use crate::error::{Error, Result};
use crate::protocol::{
    CreateContainer, ExecRequest, KillScope, MonitorState, PROTOCOL_VERSION, Reply, Request,
    RestoreContainer, SandboxSetup,
};

/// A connection to a monitor; clones share it. It is closed when the last clone, exec and [`Events`] are dropped,
/// which the monitor and its containers survive.
#[derive(Debug, Clone)]
pub struct MonitorClient {
    link: Arc<Link>,
    pid: i32,
}

impl MonitorClient {
    /// Starts a monitor. Returns when the program runs; what it can't set up shows as [`Error::MonitorGone`] in the
    /// first call, and on its standard error.
    ///
    /// # Errors
    /// The program can't be executed.
    pub async fn spawn(options: &SpawnOptions) -> Result<(Self, Events)> {
        let (stream, pid) = spawn::spawn(options)?;
        let (link, events) = Link::new(stream);
        Ok((Self { link, pid }, events))
    }

    /// Connects to the monitor of a pod's folder.
    ///
    /// # Errors
    /// Nobody listens there ([`Error::Io`]), or what listens doesn't answer as a monitor.
    pub async fn connect(dir: &Path) -> Result<(Self, Events)> {
        let stream = spawn::connect(dir).await?;
        let (link, events) = Link::new(stream);
        let mut client = Self { link, pid: 0 };
        client.pid = client.greet().await?;
        Ok((client, events))
    }

    /// Waits until the monitor answers; its pid.
    ///
    /// # Errors
    /// It is gone, or doesn't answer as a monitor.
    pub async fn greet(&self) -> Result<i32> {
        let hello = Request::Hello {
            version: PROTOCOL_VERSION,
        };
        match self.call(hello).await? {
            Reply::Hello { pid, .. } => Ok(pid),
            _ => Err(unexpected("hello")),
        }
    }

    /// The monitor's pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Makes the pod's namespaces; the pid of the sandbox's init where there is one.
    ///
    /// # Errors
    /// As the monitor reports, [`Error::Remote`], as of all the calls below; or it is gone.
    pub async fn setup_sandbox(&self, setup: SandboxSetup) -> Result<Option<i32>> {
        match self.call(Request::SetupSandbox(setup)).await? {
            Reply::Sandbox { init_pid } => Ok(init_pid),
            _ => Err(unexpected("setup_sandbox")),
        }
    }

    /// Makes a container; the pid of its init, which waits.
    ///
    /// # Errors
    /// The container can't be made; nothing of it is left.
    pub async fn create(&self, container: CreateContainer) -> Result<i32> {
        match self.call(Request::Create(container)).await? {
            Reply::Created { pid } => Ok(pid),
            _ => Err(unexpected("create")),
        }
    }

    /// Makes a container of a checkpoint; the pid of its init, which waits like all its other processes.
    ///
    /// # Errors
    /// The container can't be made, also because a monitor of an older version can't; nothing of it is left.
    pub async fn restore(&self, container: RestoreContainer) -> Result<i32> {
        match self.call(Request::Restore(Box::new(container))).await? {
            Reply::Created { pid } => Ok(pid),
            _ => Err(unexpected("restore")),
        }
    }

    /// Starts a container; when it was started, as Unix time in nanoseconds.
    ///
    /// # Errors
    /// Kind `Exec`: its command can't be executed, and it has exited with code 128.
    pub async fn start(&self, id: &str) -> Result<i64> {
        match self.call(Request::Start { id: id.to_owned() }).await? {
            Reply::Started { started_at } => Ok(started_at),
            _ => Err(unexpected("start")),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Kind `InvalidState`: the container isn't running.
    pub async fn kill(&self, id: &str, signal: i32, scope: KillScope) -> Result<()> {
        self.done(
            "kill",
            Request::Kill {
                id: id.to_owned(),
                signal,
                scope,
            },
        )
        .await
    }

    /// Forgets a container that has exited or never ran, and removes its cgroup.
    ///
    /// # Errors
    /// Kind `InvalidState`: it runs.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.done("delete", Request::Delete { id: id.to_owned() }).await
    }

    /// Runs a further process with these as stdin, stdout and stderr. Should the call be dropped before it returns,
    /// the process is killed.
    ///
    /// # Errors
    /// Kind `Exec`: the command can't be executed; kind `InvalidState`: the container isn't running.
    pub async fn exec(&self, request: ExecRequest, stdio: [OwnedFd; 3]) -> Result<ExecHandle> {
        ExecHandle::start(&self.link, request, stdio).await
    }

    /// Runs a further process on a new terminal of the container's devpts, of the size in `process.consoleSize` if that
    /// is given; `process.terminal` must be true. The terminal's master is the caller's alone: closing it hangs the
    /// process's session up. Should the call be dropped before it returns, the process is killed.
    ///
    /// # Errors
    /// As [`MonitorClient::exec`].
    pub async fn exec_terminal(&self, request: ExecRequest) -> Result<(ExecHandle, OwnedFd)> {
        ExecHandle::start_on_terminal(&self.link, request).await
    }

    /// Attaches to a container's standard streams, from now on: there is no history. `stdio` are what the caller's
    /// clients use: the reading end of stdin, the writing ends of stdout and stderr; pipes, sockets or terminals, which
    /// the monitor makes non-blocking. A terminal's output comes as stdout alone.
    ///
    /// The monitor closes its ends when the container has exited and its output is drained, and an end at once whose
    /// stream the container hasn't (any more). Whoever reads too slowly loses the whole attachment. The caller detaches
    /// by closing his ends. The end of his stdin is the end of the container's only if that was asked for by
    /// [`CreateContainer::stdin_once`].
    ///
    /// # Errors
    /// Kind `InvalidState`: the container has exited, or too many are attached. Kind `InvalidArgument`: a descriptor
    /// that can't be waited for, as a regular file.
    pub async fn attach(&self, id: &str, stdio: [Option<OwnedFd>; 3]) -> Result<()> {
        let [stdin, stdout, stderr] = stdio.each_ref().map(Option::is_some);
        let request = Request::Attach {
            id: id.to_owned(),
            stdin,
            stdout,
            stderr,
        };
        let fds = stdio.into_iter().flatten().collect();
        match self.link.call(request, fds).await? {
            Reply::Done {} => Ok(()),
            _ => Err(unexpected("attach")),
        }
    }

    /// Sets the size of a container's terminal, in columns and rows.
    ///
    /// # Errors
    /// Kind `InvalidState`: the container has none, or has exited.
    pub async fn resize(&self, id: &str, width: u16, height: u16) -> Result<()> {
        self.done(
            "resize",
            Request::Resize {
                id: id.to_owned(),
                width,
                height,
            },
        )
        .await
    }

    /// Has a container's log file opened anew; it exists when this returns.
    ///
    /// # Errors
    /// Kind `InvalidState`: the container isn't running. Otherwise the log goes on into the old file.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        self.done("reopen_log", Request::ReopenLog { id: id.to_owned() })
            .await
    }

    /// Everything about the containers.
    ///
    /// # Errors
    /// The monitor is gone.
    pub async fn state(&self) -> Result<MonitorState> {
        match self.call(Request::State {}).await? {
            Reply::State(state) => Ok(state),
            _ => Err(unexpected("state")),
        }
    }

    /// Kills everything, removes the cgroups and ends the monitor. One that is gone already is fine.
    ///
    /// # Errors
    /// A cgroup couldn't be removed; the monitor has ended nevertheless.
    pub async fn shutdown(&self) -> Result<()> {
        match self.done("shutdown", Request::Shutdown {}).await {
            Err(Error::MonitorGone) => Ok(()),
            other => other,
        }
    }

    async fn call(&self, request: Request) -> Result<Reply> {
        self.link.call(request, Vec::new()).await
    }

    async fn done(&self, name: &'static str, request: Request) -> Result<()> {
        match self.call(request).await? {
            Reply::Done {} => Ok(()),
            _ => Err(unexpected(name)),
        }
    }
}

fn unexpected(request: &'static str) -> Error {
    Error::Reply { request }
}
