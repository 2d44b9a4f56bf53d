//! Further processes in a container: running them, and ending them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::backend::{Backend, Ending, Job, Started};
use super::event_loop::{Monitor, Source};
use super::poller::Token;
use super::requests::{Answer, Asker, find, remote, wrong_state};
use super::state::State;
use super::stdio::null;
use crate::error::{Context, Result};
use crate::protocol::{ErrorKind, Event, ExecRequest, RemoteError, Reply};
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

/// An exec.
#[derive(Debug)]
pub(super) enum Exec<J> {
    /// In the making.
    Entering {
        job: J,
        /// Its registration, while it listens.
        token: Option<Token>,
        /// Where the master of its terminal goes.
        socket: Option<UnixStream>,
        asker: Asker,
    },
    /// Its program runs.
    Running {
        pid: i32,
        /// The connection that it ends with.
        owner: Option<Token>,
    },
}

impl<B: Backend> Monitor<B> {
    pub(super) fn exec(
        &mut self,
        asker: Asker,
        exec: &ExecRequest,
        fds: Vec<OwnedFd>,
    ) -> std::result::Result<(), RemoteError> {
        let streams = Streams::new(exec, fds)?;
        let container = find(&mut self.containers, &exec.container)?;
        if !matches!(container.state, State::Running { .. }) {
            return Err(wrong_state("exec in", container));
        }
        if self.execs.contains_key(&exec.exec_id) {
            return Err(RemoteError::new(
                ErrorKind::AlreadyExists,
                format!("exec {} exists", exec.exec_id),
            ));
        }
        let (stdio, socket) = match streams {
            Streams::Given(stdio) => (Ok(stdio), None),
            Streams::Terminal(socket) => (nulls(), Some(socket)),
        };
        let mut job = stdio
            .and_then(|stdio| self.backend.exec(&container.kernel, exec, stdio))
            .map_err(remote)?;
        let token = self.watch_job(&mut job, Source::Entering(exec.exec_id.clone()));
        let entering = Exec::Entering {
            job,
            token,
            socket,
            asker,
        };
        self.execs.insert(exec.exec_id.clone(), entering);
        Ok(())
    }

    /// Goes on with an exec in the making.
    pub(super) fn advance_exec(&mut self, exec_id: &str) {
        let Some((id, exec)) = self.execs.remove_entry(exec_id) else {
            return;
        };
        let Exec::Entering {
            mut job,
            mut token,
            socket,
            asker,
        } = exec
        else {
            self.execs.insert(id, exec);
            return;
        };
        let is_over = job.poll();
        if is_over || !job.is_listening() {
            self.unwatch_job(&job, token.take());
        }
        if is_over {
            let outcome = job.finish();
            return self.finish_exec(&id, outcome, socket, asker);
        }
        let entering = Exec::Entering {
            job,
            token,
            socket,
            asker,
        };
        self.execs.insert(id, entering);
    }

    fn finish_exec(
        &mut self,
        exec_id: &str,
        outcome: Result<Started>,
        socket: Option<UnixStream>,
        asker: Asker,
    ) {
        let Started { pid, console, ended } = match outcome {
            Ok(started) => started,
            Err(error) => return self.reply(asker, Err(remote(error))),
        };
        let owner = Some(asker.connection);
        self.execs
            .insert(exec_id.to_owned(), Exec::Running { pid, owner });
        let handed_over = match (socket, console) {
            (Some(socket), Some(master)) => hand_over(&socket, &master),
            _ => Ok(()),
        };
        let answer = handed_over.map(|()| Reply::Exec { pid }).map_err(remote);
        let is_wanted = answer.is_ok() && self.is_connected(asker.connection);
        self.reply(asker, answer);
        match ended {
            Some(ending) => self.exec_ended(exec_id, ending),
            None if !is_wanted => self.backend.kill_tree(pid),
            None => {}
        }
    }

    /// Forgets an exec and tells of its end.
    pub(super) fn exec_ended(&mut self, exec_id: &str, ending: Ending) {
        self.execs.remove(exec_id);
        self.broadcast(Event::ExecExited {
            exec_id: exec_id.to_owned(),
            exit: ending.exit(false),
        });
    }

    pub(super) fn kill_exec(&mut self, exec_id: &str) -> Answer {
        match self.execs.get_mut(exec_id) {
            Some(Exec::Running { pid, .. }) => self.backend.kill_tree(*pid),
            Some(Exec::Entering { job, .. }) => {
                job.kill();
                self.advance_exec(exec_id);
            }
            None => return Err(not_found(exec_id)),
        }
        Ok(Reply::Done {})
    }

    pub(super) fn detach_exec(&mut self, exec_id: &str) -> Answer {
        match self.execs.get_mut(exec_id) {
            Some(Exec::Running { owner, .. }) => {
                *owner = None;
                Ok(Reply::Done {})
            }
            _ => Err(not_found(exec_id)),
        }
    }

    /// Whoever asked for these is gone: ends its execs, and what is being made for it.
    pub(super) fn end_works_of(&mut self, connection: Token) {
        let execs: Vec<String> = self
            .execs
            .iter()
            .filter(|(_, exec)| match exec {
                Exec::Entering { asker, .. } => asker.connection == connection,
                Exec::Running { owner, .. } => *owner == Some(connection),
            })
            .map(|(id, _)| id.clone())
            .collect();
        for exec_id in execs {
            // It may have ended by itself.
            let _ = self.kill_exec(&exec_id);
        }
        let makings: Vec<String> = self
            .makings
            .iter()
            .filter(|(_, making)| making.asker.connection == connection)
            .map(|(id, _)| id.clone())
            .collect();
        for id in makings {
            self.kill_making(&id);
        }
    }
}

fn not_found(exec_id: &str) -> RemoteError {
    RemoteError::new(ErrorKind::NotFound, format!("exec {exec_id} not found"))
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
