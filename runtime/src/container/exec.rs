//! A further process in a running container: setns and clone, no helper program.
//!
//! ```text
//!   caller            stage                                  process
//!     exec ── fork ──▶ joins cgroup and namespaces
//!     │                └─ clone (sibling) ──────────────────▶ session, terminal, rlimits, user, …
//!     │ ◀─ Init{pid} ─ exit                                   │
//!     │ ◀─ end of file: execve succeeded, or Failed ───────── execve
//! ```

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use super::ended::Ended;
use super::{Entered, ExecStarted, ExecTarget, check};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Kind, Result};
use crate::foreign;
use crate::monitor::exec::kill_tree;
use crate::process;
use crate::sys::process::{Forked, exit_now, fork, fork_into, pid_of, pidfd_open, wait};

mod stage;
use stage::Stage;

/// Runs a process in a container; returns once its program runs, or with why it can't, and then nothing is left.
///
/// With `process.terminal` the streams given are not used; the master comes with the answer.
pub fn exec(
    target: &ExecTarget<'_>,
    process: &Process,
    filter: Option<&Path>,
    stdio: [OwnedFd; 3],
) -> Result<ExecStarted> {
    Entering::begin(target, process, filter, stdio)?.wait()
}

/// A process on its way into a container, for a caller who has other things to do meanwhile: he polls it whenever
/// [`Entering::fd`] is readable, tells it of children of his that have ended, and waits for none of them himself.
#[derive(Debug)]
pub struct Entering {
    channel: Channel,
    stage: Pid,
    stage_ended: bool,
    /// Whether another runtime's program makes it, which may have children that hang like it.
    is_foreign: bool,
    /// Other children that have ended; the process may be among them before it is known.
    ended: Ended,
    progress: Progress,
    /// Of listening, once that is over.
    outcome: Option<Result<()>>,
}

impl Entering {
    /// Begins.
    pub fn begin(
        target: &ExecTarget<'_>,
        process: &Process,
        filter: Option<&Path>,
        stdio: [OwnedFd; 3],
    ) -> Result<Self> {
        check::check_process("process", process)?;
        let [stdin, stdout, stderr] = stdio;
        let above = process::above_stdio;
        let stdio = [above(stdin)?, above(stdout)?, above(stderr)?];
        // read here once, so that no child has to
        cgroup::hierarchies();
        let (ours, theirs) = Channel::pair()?;
        if let Some(foreign) = target.foreign {
            let stage = match fork().call("fork")? {
                Forked::Parent(pid) => pid,
                Forked::Child(_child) => {
                    foreign::exec_stage(foreign, process, stdio, &theirs);
                    exit_now(0);
                }
            };
            return Ok(Self::new(ours, stage, true));
        }
        let mut entry = target.cgroup.entry_below(target.below)?;
        let mut born_inside = entry.tree().map(fork_into);
        if matches!(born_inside, Some(Err(Errno::EBUSY))) {
            entry = target.cgroup.entry_beside(pid_of(target.init_pidfd)?)?;
            born_inside = entry.tree().map(fork_into);
        }
        let born_inside = born_inside.transpose().call("clone into cgroup")?.flatten();
        let in_tree = born_inside.is_some() || entry.tree().is_none();
        let stage = match born_inside.map_or_else(fork, Ok).call("fork")? {
            Forked::Parent(pid) => pid,
            Forked::Child(_child) => {
                let stage = Stage {
                    target,
                    entry: in_tree.then_some(entry),
                    process,
                    filter,
                    stdio,
                    channel: &theirs,
                };
                if let Err(e) = stage.run() {
                    theirs.report_failure(&e);
                }
                exit_now(0);
            }
        };
        drop((theirs, stdio, entry));
        Ok(Self::new(ours, stage, false))
    }

    fn new(channel: Channel, stage: Pid, is_foreign: bool) -> Self {
        Self {
            channel,
            stage,
            stage_ended: false,
            is_foreign,
            ended: Ended::default(),
            progress: Progress::default(),
            outcome: None,
        }
    }

    /// Blocks until its program runs, or it has failed.
    fn wait(mut self) -> Result<ExecStarted> {
        let outcome = self.progress.listen(&self.channel);
        wait(self.stage).call("wait for exec set-up")?;
        let pid = self.progress.pid.or_else(|| self.channel.pending_init());
        let done = outcome.and_then(|()| {
            let pid = pid.ok_or_else(without_process)?;
            Ok((pid, pidfd_open(pid).call("pidfd_open")?))
        });
        match (done, pid) {
            (Ok((pid, pidfd)), _) => Ok(ExecStarted {
                pid,
                pidfd,
                console: self.progress.console,
                warnings: self.progress.warnings,
            }),
            (Err(e), pid) => {
                if let Some(pid) = pid {
                    // our own child, which nobody has waited for
                    let _ = kill(pid, Signal::SIGKILL);
                    let _ = wait(pid);
                }
                Err(e)
            }
        }
    }

    /// Readable when there is something to poll for, as long as it [is listening](Entering::is_listening).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }

    /// Whether [`Entering::fd`] is still to be waited for. Afterwards only the ends of children bring it further.
    pub fn is_listening(&self) -> bool {
        self.outcome.is_none()
    }

    /// A child of the caller has ended, whichever. To be told of all as long as this lives.
    pub fn child_ended(&mut self, pid: i32) {
        if pid == self.stage.as_raw() {
            self.stage_ended = true;
        } else {
            self.ended.push(pid);
        }
    }

    /// Takes in what there is, without blocking. True: all is over, and it is to be [finished](Entering::finish).
    pub fn poll(&mut self) -> bool {
        while self.outcome.is_none() {
            self.outcome = match self.channel.try_receive() {
                Ok(None) => break,
                Ok(Some(None)) => Some(Ok(())),
                Ok(Some(Some((report, fds)))) => self.progress.take_in(report, fds).err().map(Err),
                Err(e) => Some(Err(e)),
            };
        }
        self.stage_ended && self.outcome.is_some()
    }

    /// What came of it. A process whose program runs may have ended meanwhile; one that failed to do so is killed.
    pub fn finish(mut self) -> Result<Entered> {
        let told = self.progress.pid.or_else(|| self.channel.pending_init());
        // the stage may have been killed between making it and telling of it
        let pid = told.or_else(|| self.channel.born());
        let outcome = self.outcome.take().unwrap_or_else(|| Err(without_process()));
        match (outcome, pid) {
            (Ok(()), Some(pid)) => Ok(Entered {
                pid,
                console: self.progress.console,
                warnings: self.progress.warnings,
            }),
            (outcome, pid) => {
                self.progress.pid = pid;
                self.kill();
                outcome.and(Err(without_process()))
            }
        }
    }

    /// Gives it up. It is over when [`Entering::poll`] says so.
    pub fn kill(&mut self) {
        // our own children, which nobody has waited for
        if !self.stage_ended {
            match self.is_foreign {
                true => kill_tree(self.stage.as_raw()),
                false => drop(kill(self.stage, Signal::SIGKILL)),
            }
        }
        if let Some(pid) = self.progress.pid.filter(|pid| !self.ended.holds(*pid)) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        self.outcome.get_or_insert_with(|| {
            Err(Error::Remote {
                kind: Kind::InvalidState,
                message: "the process was killed while it was being made".to_owned(),
            })
        });
    }
}

fn without_process() -> Error {
    Error::Ended {
        what: "exec set-up",
        status: "without a process".to_owned(),
    }
}

#[derive(Debug, Default)]
struct Progress {
    pid: Option<Pid>,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
}

impl Progress {
    /// Takes in reports until execve has closed the channel.
    fn listen(&mut self, channel: &Channel) -> Result<()> {
        while let Some((report, fds)) = channel.receive()? {
            self.take_in(report, fds)?;
        }
        Ok(())
    }

    fn take_in(&mut self, report: Report, fds: Vec<OwnedFd>) -> Result<()> {
        match report {
            Report::Init { pid } => self.pid = Some(Pid::from_raw(pid)),
            Report::Console {} => self.console = fds.into_iter().next(),
            Report::Ready { warnings } => self.warnings = warnings,
            Report::Failed { kind, message } => return Err(Error::Remote { kind, message }),
            Report::Begun { .. }
            | Report::Hooks {}
            | Report::Machine(_)
            | Report::Resctrl { .. }
            | Report::Limited { .. } => {
                return Err(Error::sys("exec: unexpected report", Errno::EPROTO));
            }
        }
        Ok(())
    }
}
