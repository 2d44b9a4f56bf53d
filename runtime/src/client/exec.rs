//! A further process in a container, from the side of who asked for it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::socket::MsgFlags;
use tokio::sync::oneshot;

use super::link::Link;
use crate::error::{Context, Error, Result};
use crate::protocol::{ErrorKind, ExecRequest, Exit, Reply, Request};
use crate::sys::fd::recv_with_fds;

/// A running exec. Dropped before its exit was seen, it kills the process and its descendants, so that a call that
/// was given up leaves none; [`ExecHandle::detach`] lets it live.
#[derive(Debug)]
pub struct ExecHandle {
    pid: i32,
    guard: Guard,
    exit: oneshot::Receiver<Exit>,
}

/// Kills when it is dropped armed.
#[derive(Debug)]
struct Guard {
    link: Arc<Link>,
    exec_id: String,
    is_armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_armed {
            self.link.forget_exit(&self.exec_id);
            // Nobody waits for the answer. Requests are begun in order: this one comes after the exec itself.
            let _ = self.link.send(
                Request::KillExec {
                    exec_id: std::mem::take(&mut self.exec_id),
                },
                Vec::new(),
            );
        }
    }
}

impl ExecHandle {
    pub(super) async fn start(link: &Arc<Link>, request: ExecRequest, stdio: [OwnedFd; 3]) -> Result<Self> {
        Self::run(link, request, stdio.into()).await
    }

    async fn run(link: &Arc<Link>, request: ExecRequest, fds: Vec<OwnedFd>) -> Result<Self> {
        let exec_id = request.exec_id.clone();
        let exit = link.expect_exit(&exec_id)?;
        let mut guard = Guard {
            link: Arc::clone(link),
            exec_id,
            is_armed: true,
        };
        match link.call(Request::Exec(Box::new(request)), fds).await {
            Ok(Reply::Exec { pid }) => Ok(Self { pid, guard, exit }),
            other => {
                guard.is_armed = false;
                link.forget_exit(&guard.exec_id);
                other.and(Err(super::unexpected("exec")))
            }
        }
    }

    /// The master comes by a socket of its own, in which it lies when the answer comes.
    pub(super) async fn start_on_terminal(link: &Arc<Link>, request: ExecRequest) -> Result<(Self, OwnedFd)> {
        if request.process.terminal() != Some(true) {
            return Err(Error::invalid("process.terminal", "is not true"));
        }
        let (ours, theirs) = UnixStream::pair().call("socketpair")?;
        let handle = Self::run(link, request, vec![theirs.into()]).await?;
        let (_, masters) =
            recv_with_fds(ours.as_fd(), &mut [0; 16], MsgFlags::MSG_DONTWAIT).call("receive terminal")?;
        let master = masters.into_iter().next().ok_or(super::unexpected("exec"))?;
        Ok((handle, master))
    }

    /// The process's pid in the daemon's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end. Dropping the future loses nothing; after the exit was returned once, it is gone.
    ///
    /// # Errors
    /// [`Error::MonitorGone`].
    pub async fn wait(&mut self) -> Result<Exit> {
        let exit = (&mut self.exit).await;
        self.guard.is_armed = false;
        exit.map_err(|_| Error::MonitorGone)
    }

    /// SIGKILLs the process and its descendants; one that has ended is fine. [`ExecHandle::wait`] still tells its end.
    ///
    /// # Errors
    /// [`Error::MonitorGone`].
    pub async fn kill(&self) -> Result<()> {
        let request = Request::KillExec {
            exec_id: self.guard.exec_id.clone(),
        };
        match self.guard.link.call(request, Vec::new()).await {
            Ok(_)
            | Err(Error::Remote {
                kind: ErrorKind::NotFound,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets the process run on by itself, also when this daemon is gone.
    pub fn detach(mut self) {
        self.guard.is_armed = false;
        self.guard.link.forget_exit(&self.guard.exec_id);
        let request = Request::DetachExec {
            exec_id: self.guard.exec_id.clone(),
        };
        // Nobody waits for the answer. An older monitor, which knows no such thing, lets it live anyway.
        let _ = self.guard.link.send(request, Vec::new());
    }
}
