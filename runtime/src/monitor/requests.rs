//! What each request does.

use std::os::fd::{AsFd, OwnedFd};

use super::backend::{Backend, Prepared};
use super::connection::Incoming;
use super::container::Container;
use super::event_loop::Monitor;
use super::input::Input;
use super::outbox::Outbox;
use super::poller::Token;
use super::state::{State, Step};
use super::stdio::{Output, pipes};
use crate::error::Context;
use crate::log::{Stream, now};
use crate::protocol::{
    CreateContainer, ErrorKind, Event, Exit, KillScope, MonitorState, PROTOCOL_VERSION, RemoteError, Reply,
    Request, SandboxSetup, ToDaemon,
};
use crate::sys::term::open_peer;

pub(super) type Answer = Result<Reply, RemoteError>;

/// The exit code of a container whose command couldn't be executed.
const START_FAILED: i32 = 128;

/// The highest signal number.
const LAST_SIGNAL: i32 = 64;

impl<B: Backend> Monitor<B> {
    /// Answers a request, now or (a shutdown) later.
    pub(super) fn handle(&mut self, from: Token, incoming: Incoming) {
        let (seq, result, events) = match incoming {
            Incoming::Refused(seq, error) => (seq, Err(error), None),
            Incoming::Request(frame, _) if self.shutdown.is_some() && !is_harmless(&frame.request) => (
                frame.seq,
                Err(RemoteError::new(
                    ErrorKind::InvalidState,
                    "the pod is shutting down",
                )),
                None,
            ),
            Incoming::Request(frame, _) if frame.request == Request::Shutdown {} => {
                self.kill_everything();
                return self.begin_shutdown(from, frame.seq);
            }
            Incoming::Request(frame, fds) => {
                self.used_memory();
                let mut event = None;
                let answer = self.answer(frame.request, fds, &mut event);
                (frame.seq, answer, event)
            }
        };
        self.send(from, &ToDaemon::Reply { seq, result });
        if let Some(event) = events {
            self.broadcast(event);
        }
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>, event: &mut Option<Event>) -> Answer {
        match request {
            Request::Hello { .. } => Ok(Reply::Hello {
                version: PROTOCOL_VERSION,
                pid: own_pid(),
            }),
            Request::SetupSandbox(setup) => self.set_up_sandbox(&setup),
            Request::Create(create) => self.create(&create),
            Request::Start { id } => self.start(&id, event),
            Request::Kill { id, signal, scope } => self.kill(&id, signal, scope),
            Request::Delete { id } => self.delete(&id),
            Request::Exec(exec) => self.exec(&exec, fds),
            Request::Attach {
                id,
                stdin,
                stdout,
                stderr,
            } => self.attach(&id, [stdin, stdout, stderr], fds),
            Request::Resize { id, width, height } => self.resize(&id, width, height),
            Request::KillExec { exec_id } => self.kill_exec(&exec_id),
            Request::ReopenLog { id } => self.reopen_log(&id),
            Request::State {} => Ok(Reply::State(self.report())),
            // handled before, for its answer comes later
            Request::Shutdown {} => Ok(Reply::Done {}),
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

    fn create(&mut self, create: &CreateContainer) -> Answer {
        let invalid = |text: &str| Err(RemoteError::new(ErrorKind::InvalidArgument, text));
        if create.id.is_empty() {
            return invalid("id: it is empty");
        }
        if !create.bundle.is_absolute() {
            return invalid(&format!("bundle: {:?} is not an absolute path", create.bundle));
        }
        if self.containers.contains_key(&create.id) {
            return Err(RemoteError::new(
                ErrorKind::AlreadyExists,
                format!("container {} exists", create.id),
            ));
        }
        let (theirs, ours) = pipes(create.stdin).map_err(remote)?;
        let Prepared {
            pid,
            console,
            container,
        } = self.backend.prepare(&self.dir, create, theirs).map_err(remote)?;
        let mut container = Container::new(create, pid, container, console.is_some());
        let watched = match console {
            // the pipes go: all three streams are the terminal's
            Some(master) => self.watch_terminal(&mut container, master, create.stdin),
            None => {
                container.input = ours.stdin.map(Input::new);
                self.watch_pipes(&mut container, ours.stdout, ours.stderr)
            }
        };
        if let Err(error) = watched {
            self.discard(container);
            return Err(remote(error));
        }
        self.containers.insert(create.id.clone(), container);
        Ok(Reply::Created { pid })
    }

    fn watch_pipes(
        &mut self,
        container: &mut Container<B::Container>,
        stdout: Output,
        stderr: Output,
    ) -> crate::Result<()> {
        container.stdout = Some(self.watch_output(&container.id, Stream::Stdout, stdout)?);
        container.stderr = Some(self.watch_output(&container.id, Stream::Stderr, stderr)?);
        Ok(())
    }

    fn watch_terminal(
        &mut self,
        container: &mut Container<B::Container>,
        master: OwnedFd,
        with_stdin: bool,
    ) -> crate::Result<()> {
        container.peer = Some(open_peer(master.as_fd()).call("open terminal")?);
        if with_stdin {
            let copy = master.try_clone().call("dup terminal")?;
            container.input = Some(Input::new(Outbox::new(copy)?));
        }
        let output = Output::new(master)?;
        container.stdout = Some(self.watch_output(&container.id, Stream::Stdout, output)?);
        Ok(())
    }

    fn start(&mut self, id: &str, event: &mut Option<Event>) -> Answer {
        let container = find(&mut self.containers, id)?;
        if container.state != State::Created {
            return Err(wrong_state("start", container));
        }
        container.open_log().map_err(remote)?;
        match self.backend.start(&mut container.kernel) {
            Ok(()) => {
                let started_at = now();
                container
                    .step(Step::Started(started_at))
                    .map_err(|refused| fault(&refused))?;
                Ok(Reply::Started { started_at })
            }
            Err(error) => {
                // It ends by itself, unless it is what couldn't be reached. It is reaped like any orphan.
                let _ = self.backend.signal(&container.kernel, nix::libc::SIGKILL);
                let exit = Exit {
                    code: START_FAILED,
                    signal: None,
                    oom_killed: false,
                    finished_at: now(),
                };
                container
                    .step(Step::StartFailed(exit))
                    .map_err(|refused| fault(&refused))?;
                container.record_exit(&exit);
                container.peer = None;
                self.close_input(id);
                self.end_outputs(id);
                *event = Some(Event::ContainerExited {
                    id: id.to_owned(),
                    exit,
                });
                Err(remote(error))
            }
        }
    }

    fn kill(&mut self, id: &str, signal: i32, scope: KillScope) -> Answer {
        if !(0..=LAST_SIGNAL).contains(&signal) {
            return Err(RemoteError::new(
                ErrorKind::InvalidArgument,
                format!("signal: {signal} is none"),
            ));
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

    fn delete(&mut self, id: &str) -> Answer {
        let container = find(&mut self.containers, id)?;
        if !matches!(container.state, State::Created | State::Exited { .. }) {
            return Err(wrong_state("delete", container));
        }
        self.backend.remove(&container.kernel).map_err(remote)?;
        self.end_outputs(id);
        self.drop_attachments(id);
        // An init that never ran is reaped like any orphan.
        self.containers.remove(id);
        Ok(Reply::Done {})
    }

    /// Undoes a container that can't be taken on.
    fn discard(&mut self, mut container: Container<B::Container>) {
        for source in [container.stdout.take(), container.stderr.take()]
            .into_iter()
            .flatten()
        {
            self.unwatch_output(&source);
        }
        if let Err(error) = self.backend.remove(&container.kernel) {
            super::note::note(format_args!("container {}: {error}", container.id));
        }
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
        container.state.name()
    );
    RemoteError::new(ErrorKind::InvalidState, text)
}

fn fault(refused: &super::state::Refused) -> RemoteError {
    RemoteError::new(ErrorKind::Internal, format!("{refused:?}"))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
pub(super) fn remote(error: crate::Error) -> RemoteError {
    RemoteError::from(&error)
}
