//! A container in the making, from the side of its maker: forks the stage and hears what becomes of it, waiting or not.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ended::Ended;
use super::prepare::{Parts, Progress};
use super::{InitStdio, Options, Prepared, stage};
use crate::cgroup;
use crate::channel::Channel;
use crate::error::{Context, Error, Kind, Result};
use crate::foreign::{self, Foreign};
use crate::monitor::exec::kill_tree;
use crate::sys::process::{Forked, exit_now, fork, wait};

/// A container in the making, for a caller who has other things to do meanwhile: he polls it whenever [`Making::fd`] is
/// readable, tells it of children of his that have ended, and waits for none of them himself.
#[derive(Debug)]
pub struct Making {
    channel: Channel,
    stage: Pid,
    /// How the stage has ended.
    stage_ended: Option<String>,
    /// Other children that have ended; the init may be among them before it is known.
    ended: Ended,
    progress: Progress,
    /// Of listening, once that is over.
    outcome: Option<Result<()>>,
    terminal_newlines: bool,
    foreign: Option<Foreign>,
}

impl Making {
    /// Begins. With a listening socket the init is started over that.
    pub fn begin(options: &Options, stdio: InitStdio, listener: Option<OwnedFd>) -> Result<Self> {
        let stdio = [stdio.stdin, stdio.stdout, stdio.stderr];
        let stdio: Vec<OwnedFd> = stdio
            .into_iter()
            .map(crate::process::above_stdio)
            .collect::<Result<_>>()?;
        let stdio: [OwnedFd; 3] = stdio.try_into().map_err(|_| Error::sys("dup", Errno::EBADF))?;
        // read here once, so that no child has to
        cgroup::hierarchies();
        let (ours, theirs) = Channel::pair()?;
        let foreign = options.foreign();
        let stage = match fork().call("fork")? {
            Forked::Parent(pid) => pid,
            Forked::Child(_child) => {
                match &foreign {
                    Some(foreign) => foreign::create_stage(foreign, options, stdio, &theirs),
                    None => stage::run(options, stdio, listener, &theirs),
                }
                exit_now(0);
            }
        };
        drop((theirs, stdio, listener));
        Ok(Self {
            channel: ours,
            stage,
            stage_ended: None,
            ended: Ended::default(),
            progress: Progress::default(),
            outcome: None,
            terminal_newlines: options.terminal_newlines,
            foreign,
        })
    }

    /// Blocks until it is made, or has failed.
    pub(super) fn wait(mut self) -> Result<Prepared> {
        let outcome = self.progress.listen(&self.channel);
        // also after a failure it comes to its end by itself: killed half-way it could leave what nobody knows of
        let ended = wait(self.stage).call("wait for container set-up")?;
        match outcome.and_then(|()| self.progress.finish(&format!("{ended:?}"))) {
            Ok(parts) => Ok(self.into_prepared(parts)),
            Err(e) => {
                self.progress.undo(&self.channel);
                Err(e)
            }
        }
    }

    /// Readable when there is something to poll for, as long as it [is listening](Making::is_listening).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }

    /// Whether [`Making::fd`] is still to be waited for. Afterwards only the ends of children bring it further.
    pub fn is_listening(&self) -> bool {
        self.outcome.is_none()
    }

    /// A child of the caller has ended, whichever. To be told of all as long as this lives.
    pub fn child_ended(&mut self, pid: i32, how: &dyn std::fmt::Debug) {
        if pid == self.stage.as_raw() {
            self.stage_ended = Some(format!("{how:?}"));
        } else {
            self.ended.push(pid);
        }
    }

    /// Takes in what there is, without blocking. True: all is over, and it is to be [finished](Making::finish).
    pub fn poll(&mut self) -> bool {
        self.take_in();
        let (Some(stage), Some(outcome)) = (&self.stage_ended, &self.outcome) else {
            return false;
        };
        if outcome.is_ok() && self.is_init_alive() {
            return true;
        }
        if outcome.is_ok() {
            self.outcome = Some(Err(self.progress.ended(stage)));
        }
        let others_ended = self.progress.drain(&self.channel);
        // the stage may have been killed between making it and telling of it
        self.progress.init = self.progress.init.or_else(|| self.channel.born());
        // if it lives, its end brings us here again, as does that of whoever else still reports
        self.kill_init();
        others_ended && !self.is_init_alive()
    }

    /// What came of it.
    pub fn finish(mut self) -> Result<Prepared> {
        let stage = self.stage_ended.take().unwrap_or_default();
        let outcome = self
            .outcome
            .take()
            .unwrap_or_else(|| Err(self.progress.ended(&stage)));
        match outcome.and_then(|()| self.progress.finish(&stage)) {
            Ok(parts) => Ok(self.into_prepared(parts)),
            Err(e) => {
                if !self.is_init_alive() {
                    self.progress.init = None;
                }
                self.progress.undo(&self.channel);
                Err(e)
            }
        }
    }

    fn into_prepared(self, parts: Parts) -> Prepared {
        Prepared {
            pid: parts.pid,
            pidfd: parts.pidfd,
            start: self.channel.into_fd(),
            console: self.progress.console,
            oom_watch: parts.cgroup.oom_watch(),
            cgroup: parts.cgroup,
            namespaces: self.progress.namespaces,
            owns_pids: self.progress.owns_pids,
            terminal_newlines: self.terminal_newlines,
            warnings: self.progress.warnings,
            foreign: self.foreign,
            machine: self.progress.machine,
            resctrl: self.progress.resctrl,
            hooks: self.progress.hooks,
        }
    }

    /// Gives it up. It is over when [`Making::poll`] says so.
    pub fn kill(&mut self) {
        if self.stage_ended.is_none() {
            // our own child, which nobody has waited for; another runtime's program may have children that hang like it
            match self.foreign {
                Some(_) => kill_tree(self.stage.as_raw()),
                None => drop(kill(self.stage, Signal::SIGKILL)),
            }
        }
        self.kill_init();
        self.outcome = Some(Err(Error::Remote {
            kind: Kind::InvalidState,
            message: "the container was killed while it was being made".to_owned(),
        }));
    }

    fn take_in(&mut self) {
        while self.outcome.is_none() {
            self.outcome = match self.channel.try_receive() {
                Ok(None) => return,
                Ok(Some(None)) => Some(Ok(())),
                Ok(Some(Some((report, fds)))) => match self.progress.take_in(report, fds) {
                    Ok(()) if self.progress.is_complete() => Some(Ok(())),
                    Ok(()) => None,
                    Err(e) => Some(Err(e)),
                },
                Err(e) => Some(Err(e)),
            };
        }
    }

    fn is_init_alive(&self) -> bool {
        self.progress.init.is_some_and(|init| !self.ended.holds(init))
    }

    fn kill_init(&self) {
        if let Some(init) = self.progress.init.filter(|_| self.is_init_alive()) {
            // our own child, which nobody has waited for
            let _ = kill(init, Signal::SIGKILL);
        }
    }
}
