//! What each request does.

use std::os::fd::OwnedFd;

use super::backend::Backend;
use super::connection::Incoming;
use super::container::Container;
use super::event_loop::Monitor;
use super::poller::Token;
use super::state::State;
use crate::protocol::{
    ErrorKind, KillScope, MonitorState, PROTOCOL_VERSION, RemoteError, Reply, Request, RestoreContainer,
    SandboxSetup, ToDaemon,
};

pub(super) type Answer = Result<Reply, RemoteError>;

/// The highest signal number.
const LAST_SIGNAL: i32 = 64;

impl<B: Backend> Monitor<B> {
    /// Answers a request, now or later.
    pub(super) fn handle(&mut self, from: Token, incoming: Incoming) {
        let (seq, result) = match incoming {
            Incoming::Refused(seq, error) => (seq, Err(error)),
            Incoming::Request(frame, _) if self.shutdown.is_some() && !is_harmless(&frame.request) => {
                let error = RemoteError::new(ErrorKind::InvalidState, "the pod is shutting down");
                (frame.seq, Err(error))
            }
            Incoming::Request(frame, fds) => {
                self.used_memory();
                let asker = Asker {
                    connection: from,
                    seq: frame.seq,
                };
                (frame.seq, self.answer(asker, frame.request, fds))
            }
        };
        match result {
            Ok(None) => {}
            Ok(Some(reply)) => self.reply(
                Asker {
                    connection: from,
                    seq,
                },
                Ok(reply),
            ),
            Err(error) => self.reply(
                Asker {
                    connection: from,
                    seq,
                },
                Err(error),
            ),
        }
    }

    /// Sends an answer.
    pub(super) fn reply(&mut self, to: Asker, result: Answer) {
        self.send(to.connection, &ToDaemon::Reply { seq: to.seq, result });
    }

    /// None: the answer comes later.
    fn answer(
        &mut self,
        asker: Asker,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Reply>, RemoteError> {
        match request {
            Request::Create(create) => self.create(asker, create, None).map(|()| None),
            Request::Restore(restore) => {
                let RestoreContainer { create, from } = *restore;
                self.create(asker, create, Some(&from)).map(|()| None)
            }
            Request::Start { id } => self.start(asker, &id).map(|()| None),
            Request::Exec(exec) => self.exec(asker, &exec, fds).map(|()| None),
            Request::Delete { id } => self.delete(asker, &id),
            Request::Shutdown {} => {
                self.begin_shutdown(asker);
                Ok(None)
            }
            other => self.answer_now(other, fds).map(Some),
        }
    }

    fn answer_now(&mut self, request: Request, fds: Vec<OwnedFd>) -> Answer {
        match request {
            Request::Hello { .. } => Ok(Reply::Hello {
                version: PROTOCOL_VERSION,
                pid: own_pid(),
            }),
            Request::SetupSandbox(setup) => self.set_up_sandbox(&setup),
            Request::Kill { id, signal, scope } => self.kill(&id, signal, scope),
            Request::Attach {
                id,
                stdin,
                stdout,
                stderr,
            } => self.attach(&id, [stdin, stdout, stderr], fds),
            Request::Resize { id, width, height } => self.resize(&id, width, height),
            Request::KillExec { exec_id } => self.kill_exec(&exec_id),
            Request::DetachExec { exec_id } => self.detach_exec(&exec_id),
            Request::ReopenLog { id } => self.reopen_log(&id),
            Request::State {} => Ok(Reply::State(self.report())),
            Request::Create(_)
            | Request::Restore(_)
            | Request::Start { .. }
            | Request::Exec(_)
            | Request::Delete { .. }
            | Request::Shutdown {} => Ok(Reply::Done {}),
        }
    }

    fn set_up_sandbox(&mut self, setup: &SandboxSetup) -> Answer {
        if self.sandbox.is_set_up {
            return Err(RemoteError::new(
                ErrorKind::InvalidState,
                "the sandbox is set up already",
            ));
        }
        self.sandbox.init = self.backend.setup_sandbox(&self.dir, setup).map_err(remote)?;
        self.sandbox.is_set_up = true;
        Ok(Reply::Sandbox {
            init_pid: self.sandbox.init,
        })
    }

    fn kill(&mut self, id: &str, signal: i32, scope: KillScope) -> Answer {
        if !(0..=LAST_SIGNAL).contains(&signal) {
            return Err(RemoteError::new(
                ErrorKind::InvalidArgument,
                format!("signal: {signal} is none"),
            ));
        }
        if signal != 0 && self.kill_making(id) {
            return Ok(Reply::Done {});
        }
        let container = find(&mut self.containers, id)?;
        if !container.state.is_alive() {
            return Err(RemoteError::new(
                ErrorKind::InvalidState,
                format!("container {id} is not running"),
            ));
        }
        match scope {
            KillScope::Init => self.backend.signal(&container.kernel, signal),
            KillScope::All => self.backend.signal_all(&container.kernel, signal),
        }
        .map_err(remote)?;
        Ok(Reply::Done {})
    }

    fn reopen_log(&mut self, id: &str) -> Answer {
        let container = find(&mut self.containers, id)?;
        if !matches!(container.state, State::Running { .. } | State::Draining { .. }) {
            return Err(RemoteError::new(
                ErrorKind::InvalidState,
                format!("container {id} is not running"),
            ));
        }
        container.reopen_log().map_err(remote)?;
        Ok(Reply::Done {})
    }

    fn report(&self) -> MonitorState {
        MonitorState {
            version: PROTOCOL_VERSION,
            pid: own_pid(),
            init_pid: self.sandbox.init,
            containers: self.containers.values().map(Container::report).collect(),
        }
    }
}

/// Who awaits an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) connection: Token,
    pub(super) seq: u64,
}

fn is_harmless(request: &Request) -> bool {
    matches!(request, Request::Hello { .. } | Request::State {})
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

pub(super) fn find<'a, C>(
    containers: &'a mut std::collections::BTreeMap<String, Container<C>>,
    id: &str,
) -> Result<&'a mut Container<C>, RemoteError> {
    containers
        .get_mut(id)
        .ok_or_else(|| RemoteError::new(ErrorKind::NotFound, format!("container {id} not found")))
}

pub(super) fn wrong_state<C>(verb: &str, container: &Container<C>) -> RemoteError {
    let text = format!(
        "cannot {verb} container {}: it is {}",
        container.id,
        container.doing()
    );
    RemoteError::new(ErrorKind::InvalidState, text)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
pub(super) fn remote(error: crate::Error) -> RemoteError {
    RemoteError::from(&error)
}
