//! The caller's side: what stage and init report, what is undone when it fails, and letting the init go.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hooks;
use super::making::Making;
use super::{InitStdio, Options, Prepared};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Kind, Result};
use crate::process::Machine;
use crate::protocol::CreateContainer;
use crate::resctrl;
use crate::sys::process::{pidfd_kill, pidfd_open, wait};

/// Makes a container up to the point where its init waits. A failure leaves nothing behind.
///
/// Blocks for the few milliseconds that this takes. The caller must be the only one who waits for its children.
pub fn prepare(request: &CreateContainer, stdio: InitStdio) -> Result<Prepared> {
    prepare_with(&Options::from(request), stdio)
}

/// Like [`prepare`], with everything that can be chosen.
pub fn prepare_with(options: &Options, stdio: InitStdio) -> Result<Prepared> {
    Making::begin(options, stdio, None)?.wait()
}

/// Like [`prepare_with`], for a caller who doesn't stay: the init waits on the listening socket given
/// (`SOCK_SEQPACKET`), where [`start_over`] lets it go.
pub fn prepare_waiting(options: &Options, stdio: InitStdio, listener: Option<OwnedFd>) -> Result<Prepared> {
    Making::begin(options, stdio, listener)?.wait()
}

/// Lets an init go that waits on a socket that `connection` leads to; returns once its program runs, or with why it
/// can't.
pub fn start_over(connection: OwnedFd) -> Result<()> {
    let channel = Channel::from_fd(connection);
    let stopped = || Error::Remote {
        kind: Kind::InvalidState,
        message: "cannot start a container that has stopped".to_owned(),
    };
    channel.release().map_err(|errno| match errno {
        Errno::EPIPE | Errno::ECONNRESET => stopped(),
        other => Error::sys("release init", other),
    })?;
    outcome_of_exec(&channel)
}

/// Lets the init of a prepared container go; returns once its program runs, or with why it can't.
pub fn start(prepared: &mut Prepared) -> Result<()> {
    let channel = release(prepared)?;
    outcome_of_exec(&channel)?;
    started(prepared)
}

/// Lets the init of a prepared container go; [`poll_start`] tells what comes of it, whenever [`Prepared::start`] is
/// readable.
pub fn begin_start(prepared: &Prepared) -> Result<()> {
    release(prepared).map(drop)
}

/// What came of a start, once that is known; never blocks.
pub fn poll_start(prepared: &mut Prepared) -> Option<Result<()>> {
    let polled = channel_of(prepared).and_then(|channel| channel.try_receive());
    let outcome = match polled {
        Ok(received) => exec_outcome(received?),
        Err(e) => Err(e),
    };
    Some(outcome.and_then(|()| started(prepared)))
}

/// What is left to do when the program runs.
fn started(prepared: &Prepared) -> Result<()> {
    let Some(hooks) = &prepared.hooks else {
        return Ok(());
    };
    hooks
        .run(hooks::Kind::Poststart, prepared.pid.as_raw(), &[])
        .inspect_err(|_| {
            // it runs by now, and must not go on
            let _ = pidfd_kill(prepared.pidfd.as_fd(), libc::SIGKILL);
        })
}

fn channel_of(prepared: &Prepared) -> Result<Channel> {
    let copy = prepared.start.try_clone();
    Ok(Channel::from_fd(copy.path("dup", Path::new("start socket"))?))
}

fn release(prepared: &Prepared) -> Result<Channel> {
    let channel = channel_of(prepared)?;
    match channel.release() {
        Ok(()) => Ok(channel),
        Err(Errno::EPIPE | Errno::ECONNRESET) => Err(Error::Remote {
            kind: Kind::InvalidState,
            message: "cannot start a container that has stopped".to_owned(),
        }),
        Err(e) => Err(e).call("release init"),
    }
}

/// Removes what is left of a container whose processes have ended, or never ran: its cgroup, its resctrl groups. Then its
/// poststop hooks run; of these, what fails is only told, as warnings.
pub fn remove(prepared: &Prepared) -> Result<Vec<String>> {
    prepared.cgroup.remove()?;
    if let Some(groups) = &prepared.resctrl {
        groups.remove()?;
    }
    let hooks = prepared.hooks.as_ref();
    let failed = hooks.and_then(|hooks| hooks.run(hooks::Kind::Poststop, 0, &[]).err());
    Ok(failed.into_iter().map(|e| e.to_string()).collect())
}

/// Waits until the other side is closed by execve, or reports why it wasn't.
pub(super) fn outcome_of_exec(channel: &Channel) -> Result<()> {
    exec_outcome(channel.receive()?)
}

fn exec_outcome(received: Option<(Report, Vec<OwnedFd>)>) -> Result<()> {
    match received {
        None => Ok(()),
        Some((Report::Failed { kind, message }, _)) => Err(Error::Remote { kind, message }),
        Some(_) => Err(Error::sys("start container: unexpected report", Errno::EPROTO)),
    }
}

/// What is known of a container in the making.
#[derive(Debug, Default)]
pub(super) struct Progress {
    cgroup: Option<cgroup::Handle>,
    pub(super) namespaces: i32,
    pub(super) owns_pids: bool,
    /// `linux.resources.memory.limit`
    memory: Option<i64>,
    pub(super) init: Option<Pid>,
    pub(super) console: Option<OwnedFd>,
    pub(super) hooks: Option<hooks::Plan>,
    pub(super) machine: Option<Box<Machine>>,
    pub(super) resctrl: Option<resctrl::Groups>,
    pub(super) warnings: Vec<String>,
    limited: bool,
    ready: bool,
}

pub(super) struct Parts {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) cgroup: cgroup::Handle,
}

impl Progress {
    /// Takes in reports until both sides are done.
    pub(super) fn listen(&mut self, channel: &Channel) -> Result<()> {
        while !self.is_complete() {
            let Some((report, fds)) = channel.receive()? else {
                break;
            };
            self.take_in(report, fds)?;
        }
        Ok(())
    }

    /// Whether nothing more is to be reported.
    pub(super) fn is_complete(&self) -> bool {
        self.limited && self.ready
    }

    pub(super) fn take_in(&mut self, report: Report, fds: Vec<OwnedFd>) -> Result<()> {
        match report {
            Report::Begun {
                cgroup,
                namespaces,
                owns_pids,
                memory,
            } => {
                self.cgroup = Some(cgroup::Handle::new(&cgroup)?);
                self.namespaces = namespaces;
                self.owns_pids = owns_pids;
                self.memory = memory;
            }
            Report::Hooks {} => {
                let file = fds.into_iter().next().map(File::from);
                self.hooks = file.map(hooks::Plan::from_file).transpose()?;
            }
            Report::Machine(machine) => self.machine = Some(Box::new(machine)),
            Report::Resctrl { groups } => self.resctrl = Some(groups),
            Report::Init { pid } => self.init = Some(Pid::from_raw(pid)),
            Report::Limited { warnings } => {
                self.warnings.extend(warnings);
                self.limited = true;
            }
            Report::Console {} => self.console = fds.into_iter().next(),
            Report::Ready { warnings } => {
                self.warnings.extend(warnings);
                self.ready = true;
            }
            Report::Failed { kind, message } => return Err(Error::Remote { kind, message }),
        }
        Ok(())
    }

    pub(super) fn finish(&self, stage: &str) -> Result<Parts> {
        if !self.is_complete() {
            return Err(self.ended(stage));
        }
        match (self.init, &self.cgroup) {
            (Some(pid), Some(cgroup)) => {
                let pidfd = pidfd_open(pid).call("pidfd_open")?;
                Ok(Parts {
                    pid,
                    pidfd,
                    cgroup: cgroup.clone(),
                })
            }
            _ => Err(Error::sys("container set-up left out a report", Errno::EPROTO)),
        }
    }

    /// Why it ended before it was complete.
    pub(super) fn ended(&self, stage: &str) -> Error {
        match (self.memory, &self.cgroup) {
            (Some(limit), Some(cgroup)) if cgroup.oom_kills() > 0 => Error::invalid(
                "linux.resources.memory.limit",
                format!(
                    "{limit} is too little for the container to be made: the kernel has killed it for that"
                ),
            ),
            _ => Error::Ended {
                what: "container set-up",
                status: stage.to_owned(),
            },
        }
    }

    /// Takes in what lies unread when it has failed, so that all is known that is to be undone. Whether everybody has
    /// ended who could make more of it.
    pub(super) fn drain(&mut self, channel: &Channel) -> bool {
        loop {
            match channel.try_receive() {
                Ok(None) => return false,
                Ok(Some(None)) => return true,
                // the first failure is what the caller learns of
                Ok(Some(Some((report, fds)))) => drop(self.take_in(report, fds)),
                // no report of ours: nobody can tell what it means
                Err(_) => return true,
            }
        }
    }

    /// Kills and waits for the init and removes the cgroup. The first failure is what the caller learns of; one in
    /// here would hide it.
    pub(super) fn undo(&mut self, channel: &Channel) {
        self.drain(channel);
        if let Some(pid) = self.init.take() {
            // our own child, which nobody has waited for
            let _ = kill(pid, Signal::SIGKILL);
            let _ = wait(pid);
        }
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.remove();
        }
        if let Some(groups) = self.resctrl.take() {
            let _ = groups.remove();
        }
        // whatever hooks have made, these undo
        if let Some(hooks) = self.hooks.take() {
            let _ = hooks.run(hooks::Kind::Poststop, 0, &[]);
        }
    }
}
