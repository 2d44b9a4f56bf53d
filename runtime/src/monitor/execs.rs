//! Further processes in a container: running them, and ending them.

use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::backend::{Backend, Started};
use super::event_loop::Monitor;
use super::requests::{Answer, find, remote, wrong_state};
use super::state::State;
use super::stdio::null;
use crate::error::{Context, Result};
use crate::protocol::{ErrorKind, ExecRequest, RemoteError, Reply};
use crate::sys::fd::send_with_fds;

/// What comes with an exec.
enum Streams {
    Given([OwnedFd; 3]),
    /// Where the master of its terminal goes.
    Terminal(UnixStream),
}

impl Streams {
    fn new(exec: &ExecRequest, mut fds: Vec<OwnedFd>) -> std::result::Result<Self, RemoteError> {
        let (has_terminal, count) = (exec.process.terminal() == Some(true), fds.len());
        let wrong = |text: String| RemoteError::new(ErrorKind::InvalidArgument, text);
        if !has_terminal {
            return match <[OwnedFd; 3]>::try_from(fds) {
                Ok(stdio) => Ok(Self::Given(stdio)),
                Err(_) => Err(wrong(format!("exec needs 3 file descriptors, {count} came"))),
            };
        }
        match (fds.pop(), count) {
            (Some(socket), 1) => Ok(Self::Terminal(UnixStream::from(socket))),
            _ => Err(wrong(format!(
                "exec with a terminal needs 1 file descriptor, {count} came"
            ))),
        }
    }
}

impl<B: Backend> Monitor<B> {
    pub(super) fn exec(&mut self, exec: &ExecRequest, fds: Vec<OwnedFd>) -> Answer {
        let streams = Streams::new(exec, fds)?;
        let container = find(&mut self.containers, &exec.container)?;
        if !matches!(container.state, State::Running { .. }) {
            return Err(wrong_state("exec in", container));
        }
        let Entry::Vacant(slot) = self.execs.entry(exec.exec_id.clone()) else {
            return Err(RemoteError::new(
                ErrorKind::AlreadyExists,
                format!("exec {} exists", exec.exec_id),
            ));
        };
        let (stdio, socket) = match streams {
            Streams::Given(stdio) => (Ok(stdio), None),
            Streams::Terminal(socket) => (nulls(), Some(socket)),
        };
        let Started { pid, console } = stdio
            .and_then(|stdio| self.backend.exec(&container.kernel, exec, stdio))
            .map_err(remote)?;
        slot.insert(pid);
        let handed_over = match (socket, console) {
            (Some(socket), Some(master)) => hand_over(&socket, &master),
            _ => Ok(()),
        };
        if let Err(error) = handed_over {
            self.backend.kill_tree(pid);
            return Err(remote(error));
        }
        Ok(Reply::Exec { pid })
    }

    pub(super) fn kill_exec(&mut self, exec_id: &str) -> Answer {
        let Some(pid) = self.execs.get(exec_id).copied() else {
            return Err(RemoteError::new(
                ErrorKind::NotFound,
                format!("exec {exec_id} not found"),
            ));
        };
        self.backend.kill_tree(pid);
        Ok(Reply::Done {})
    }
}

/// With a terminal these are replaced by it.
fn nulls() -> Result<[OwnedFd; 3]> {
    Ok([null()?, null()?, null()?])
}

/// Gives a terminal's master away.
fn hand_over(socket: &UnixStream, master: &OwnedFd) -> Result<()> {
    socket.set_nonblocking(true).call("set up terminal's socket")?;
    send_with_fds(socket.as_fd(), b"terminal", &[master.as_raw_fd()]).call("send terminal")?;
    Ok(())
}
