//! Making, starting and deleting containers. None of it is waited for: a mount or an execve may hang for ever, and the
//! pod's other containers go on meanwhile.
//!
//! ```text
//!   Create ─▶ makings[id] ── its job polls ──▶ containers[id] Created ─ Start ─▶ starting ── polls ──▶ Running
//!                 │ Kill, Delete, or whoever asked is gone                           └─ failed ──▶ Exited
//!                 └──▶ killed: nothing is left
//! ```

use std::os::fd::{AsFd, OwnedFd};

use super::backend::{Backend, Job, Prepared};
use super::container::{Container, Starting};
use super::event_loop::{Monitor, Source};
use super::input::Input;
use super::note::note;
use super::outbox::Outbox;
use super::poller::{Interest, Token};
use super::requests::{Asker, find, remote, wrong_state};
use super::state::{State, Step};
use super::stdio::{OurStdio, Output, pipes};
use crate::checkpoint::Restore;
use crate::error::{Context, Result};
use crate::log::{Stream, now};
use crate::protocol::{CreateContainer, ErrorKind, Event, Exit, RemoteError, Reply};
use crate::sys::term::open_peer;

/// The exit code of a container whose command couldn't be executed.
const START_FAILED: i32 = 128;

/// A container in the making.
#[derive(Debug)]
pub(super) struct Making<J> {
    pub(super) job: J,
    /// Its registration, while it listens.
    token: Option<Token>,
    request: CreateContainer,
    ours: OurStdio,
    pub(super) asker: Asker,
    /// Who asked for its deletion, and awaits its end.
    deleters: Vec<Asker>,
}

impl<B: Backend> Monitor<B> {
    pub(super) fn create(
        &mut self,
        asker: Asker,
        create: CreateContainer,
        from: Option<&Restore>,
    ) -> std::result::Result<(), RemoteError> {
        let invalid = |text: &str| Err(RemoteError::new(ErrorKind::InvalidArgument, text));
        if create.id.is_empty() {
            return invalid("id: it is empty");
        }
        if !create.bundle.is_absolute() {
            return invalid(&format!("bundle: {:?} is not an absolute path", create.bundle));
        }
        if self.containers.contains_key(&create.id) || self.makings.contains_key(&create.id) {
            return Err(RemoteError::new(
                ErrorKind::AlreadyExists,
                format!("container {} exists", create.id),
            ));
        }
        let (theirs, ours) = pipes(create.stdin).map_err(remote)?;
        let mut job = self.backend.prepare(&create, from, theirs).map_err(remote)?;
        let token = self.watch_job(&mut job, Source::Making(create.id.clone()));
        let id = create.id.clone();
        let making = Making {
            job,
            token,
            request: create,
            ours,
            asker,
            deleters: Vec::new(),
        };
        self.makings.insert(id, making);
        Ok(())
    }

    /// Has the poller tell when there is something to poll a job for. One that can't be watched is given up.
    pub(super) fn watch_job(&mut self, job: &mut impl Job, source: Source) -> Option<Token> {
        match self.poller.add(job.fd(), Interest::EPOLLIN) {
            Ok(token) => {
                self.sources.insert(token, source);
                Some(token)
            }
            Err(error) => {
                note(format_args!("{error}"));
                job.kill();
                None
            }
        }
    }

    /// Takes a job that doesn't listen any more, or is over, out of the poller.
    pub(super) fn unwatch_job(&mut self, job: &impl Job, token: Option<Token>) {
        if let Some(token) = token {
            self.poller.remove(job.fd());
            self.sources.remove(&token);
        }
    }

    /// Goes on with a container in the making.
    pub(super) fn advance_making(&mut self, id: &str) {
        let Some(mut making) = self.makings.remove(id) else {
            return;
        };
        let is_over = making.job.poll();
        if is_over || !making.job.is_listening() {
            self.unwatch_job(&making.job, making.token.take());
        }
        if is_over {
            self.finish_making(making);
        } else {
            self.makings.insert(id.to_owned(), making);
        }
    }

    fn finish_making(&mut self, making: Making<B::Making>) {
        let Making {
            job,
            request,
            ours,
            asker,
            deleters,
            ..
        } = making;
        let made = job
            .finish()
            .and_then(|prepared| self.take_on(&request, prepared, ours));
        // nobody else knows of it
        if made.is_ok() && !self.is_connected(asker.connection) {
            self.forget(&request.id);
        }
        let answer = made.map(|pid| Reply::Created { pid }).map_err(remote);
        self.reply(asker, answer);
        for deleter in deleters {
            self.reply(deleter, Ok(Reply::Done {}));
        }
    }

    fn take_on(
        &mut self,
        create: &CreateContainer,
        prepared: Prepared<B::Container>,
        ours: OurStdio,
    ) -> Result<i32> {
        let Prepared {
            pid,
            console,
            container,
        } = prepared;
        let mut container = Container::new(create, pid, container, console.is_some());
        let watched = match console {
            // the pipes go: all three streams are the terminal's
            Some(master) => self.watch_terminal(&mut container, master, create.stdin),
            None => {
                container.input = ours.stdin.map(Input::new);
                self.watch_pipes(&mut container, ours.stdout, ours.stderr)
            }
        };
        self.containers.insert(create.id.clone(), container);
        if watched.is_err() {
            self.forget(&create.id);
        }
        watched.map(|()| pid)
    }

    fn watch_pipes(
        &mut self,
        container: &mut Container<B::Container>,
        stdout: Output,
        stderr: Output,
    ) -> Result<()> {
        container.stdout = Some(self.watch_output(&container.id, Stream::Stdout, stdout)?);
        container.stderr = Some(self.watch_output(&container.id, Stream::Stderr, stderr)?);
        Ok(())
    }

    fn watch_terminal(
        &mut self,
        container: &mut Container<B::Container>,
        master: OwnedFd,
        with_stdin: bool,
    ) -> Result<()> {
        container.peer = Some(open_peer(master.as_fd()).call("open terminal")?);
        if with_stdin {
            let copy = master.try_clone().call("dup terminal")?;
            container.input = Some(Input::new(Outbox::new(copy)?));
        }
        let output = Output::new(master)?;
        container.stdout = Some(self.watch_output(&container.id, Stream::Stdout, output)?);
        Ok(())
    }

    /// Gives up a container in the making; false if there is none of that name.
    pub(super) fn kill_making(&mut self, id: &str) -> bool {
        let Some(making) = self.makings.get_mut(id) else {
            return false;
        };
        making.job.kill();
        self.advance_making(id);
        true
    }

    pub(super) fn start(&mut self, asker: Asker, id: &str) -> std::result::Result<(), RemoteError> {
        let container = find(&mut self.containers, id)?;
        if container.state != State::Created || container.starting.is_some() {
            return Err(wrong_state("start", container));
        }
        container.open_log().map_err(remote)?;
        let token = self.backend.start(&mut container.kernel).and_then(|()| {
            self.poller
                .add(self.backend.start_fd(&container.kernel), Interest::EPOLLIN)
        });
        match token {
            Ok(token) => {
                container.starting = Some(Starting {
                    asker,
                    token: Some(token),
                });
                self.sources.insert(token, Source::Starting(id.to_owned()));
            }
            Err(error) => {
                container.starting = Some(Starting { asker, token: None });
                self.finish_start(id, Err(error));
            }
        }
        Ok(())
    }

    /// The init has something to say about execve, or has ended.
    pub(super) fn advance_start(&mut self, id: &str, init_ended: bool) {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.starting.is_some()) else {
            return;
        };
        match self.backend.poll_start(&mut container.kernel) {
            Some(outcome) => self.finish_start(id, outcome),
            // it was executed, or never will be
            None if init_ended => self.finish_start(id, Ok(())),
            None => {}
        }
    }

    fn finish_start(&mut self, id: &str, outcome: Result<()>) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Some(Starting { asker, token }) = container.starting.take() else {
            return;
        };
        if let Some(token) = token {
            self.poller.remove(self.backend.start_fd(&container.kernel));
            self.sources.remove(&token);
        }
        let started_at = now();
        let exit = Exit {
            code: START_FAILED,
            signal: None,
            oom_killed: false,
            finished_at: started_at,
        };
        let step = match &outcome {
            Ok(()) => Step::Started(started_at),
            Err(_) => Step::StartFailed(exit),
        };
        if let Err(refused) = container.step(step) {
            let fault = RemoteError::new(ErrorKind::Internal, format!("{refused:?}"));
            return self.reply(asker, Err(fault));
        }
        match outcome {
            Ok(()) => self.reply(asker, Ok(Reply::Started { started_at })),
            Err(error) => {
                // It ends by itself, unless it is what couldn't be reached. It is reaped like any orphan.
                let _ = self.backend.signal(&container.kernel, nix::libc::SIGKILL);
                container.record_exit(&exit);
                container.peer = None;
                self.close_input(id);
                self.end_outputs(id);
                self.reply(asker, Err(remote(error)));
                self.broadcast(Event::ContainerExited {
                    id: id.to_owned(),
                    exit,
                });
            }
        }
    }

    /// Removes a container that has exited or never ran. One in the making is ended first; that is answered later.
    pub(super) fn delete(
        &mut self,
        asker: Asker,
        id: &str,
    ) -> std::result::Result<Option<Reply>, RemoteError> {
        if let Some(making) = self.makings.get_mut(id) {
            making.deleters.push(asker);
            self.kill_making(id);
            return Ok(None);
        }
        let container = find(&mut self.containers, id)?;
        let is_idle = matches!(container.state, State::Created | State::Exited { .. });
        if !is_idle || container.starting.is_some() {
            return Err(wrong_state("delete", container));
        }
        self.backend.remove(&container.kernel).map_err(remote)?;
        self.forget_streams(id);
        Ok(Some(Reply::Done {}))
    }

    /// Undoes a container that can't be taken on.
    fn forget(&mut self, id: &str) {
        if let Some(container) = self.containers.get(id)
            && let Err(error) = self.backend.remove(&container.kernel)
        {
            note(format_args!("container {id}: {error}"));
        }
        self.forget_streams(id);
    }

    /// An init that never ran is reaped like any orphan.
    fn forget_streams(&mut self, id: &str) {
        self.end_outputs(id);
        self.drop_attachments(id);
        self.containers.remove(id);
    }
}
