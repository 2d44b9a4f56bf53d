//! The caller's side: forks the stage, listens to what it and the init report, undoes what failed.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::hooks;
use super::{InitStdio, Options, Prepared, stage};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Kind, Result};
use crate::protocol::CreateContainer;
use crate::sys::process::{Forked, exit_now, fork, pidfd_kill, pidfd_open, wait};

/// Makes a container up to the point where its init waits. A failure leaves nothing behind.
///
/// Blocks for the few milliseconds that this takes. The caller must be the only one who waits for its children.
pub fn prepare(request: &CreateContainer, stdio: InitStdio) -> Result<Prepared> {
    prepare_with(&Options::from(request), stdio)
}

/// Like [`prepare`], with everything that can be chosen.
pub fn prepare_with(options: &Options, stdio: InitStdio) -> Result<Prepared> {
    let stdio = [stdio.stdin, stdio.stdout, stdio.stderr];
    let stdio: Vec<OwnedFd> = stdio
        .into_iter()
        .map(crate::process::above_stdio)
        .collect::<Result<_>>()?;
    let stdio: [OwnedFd; 3] = stdio.try_into().map_err(|_| Error::sys("dup", Errno::EBADF))?;
    // read here once, so that no child has to
    cgroup::hierarchies();
    let (ours, theirs) = Channel::pair()?;
    let stage = match fork().call("fork")? {
        Forked::Parent(pid) => pid,
        Forked::Child(_child) => {
            stage::run(options, stdio, &theirs);
            exit_now(0);
        }
    };
    drop((theirs, stdio));
    let mut progress = Progress::default();
    let outcome = progress.listen(&ours);
    // also after a failure it comes to its end by itself: killed half-way it could leave what nobody knows of
    let ended = wait(stage).call("wait for container set-up")?;
    match outcome.and_then(|()| progress.finish(&ended)) {
        Ok(parts) => Ok(Prepared {
            pid: parts.pid,
            pidfd: parts.pidfd,
            start: ours.into_fd(),
            console: progress.console,
            cgroup: parts.cgroup,
            namespaces: progress.namespaces,
            terminal_newlines: options.terminal_newlines,
            warnings: progress.warnings,
            hooks: progress.hooks,
        }),
        Err(e) => {
            progress.undo(&ours);
            Err(e)
        }
    }
}

/// Lets the init of a prepared container go; returns once its program runs, or with why it can't.
pub fn start(prepared: &mut Prepared) -> Result<()> {
    let channel = Channel::from_fd(
        prepared
            .start
            .try_clone()
            .path("dup", Path::new("start socket"))?,
    );
    match channel.release() {
        Ok(()) => {}
        Err(Errno::EPIPE | Errno::ECONNRESET) => {
            return Err(Error::Remote {
                kind: Kind::InvalidState,
                message: "cannot start a container that has stopped".to_owned(),
            });
        }
        Err(e) => return Err(e).call("release init"),
    }
    outcome_of_exec(&channel)?;
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

/// Removes what is left of a container whose processes have ended, or never ran: its cgroup. Then its poststop hooks
/// run; of these, what fails is only told, as warnings.
pub fn remove(prepared: &Prepared) -> Result<Vec<String>> {
    prepared.cgroup.remove()?;
    let hooks = prepared.hooks.as_ref();
    let failed = hooks.and_then(|hooks| hooks.run(hooks::Kind::Poststop, 0, &[]).err());
    Ok(failed.into_iter().map(|e| e.to_string()).collect())
}

/// Waits until the other side is closed by execve, or reports why it wasn't.
pub(super) fn outcome_of_exec(channel: &Channel) -> Result<()> {
    match channel.receive()? {
        None => Ok(()),
        Some((Report::Failed { kind, message }, _)) => Err(Error::Remote { kind, message }),
        Some(_) => Err(Error::sys("start container: unexpected report", Errno::EPROTO)),
    }
}

/// What is known of a container in the making.
#[derive(Default)]
struct Progress {
    cgroup: Option<cgroup::Handle>,
    namespaces: i32,
    init: Option<Pid>,
    console: Option<OwnedFd>,
    hooks: Option<hooks::Plan>,
    warnings: Vec<String>,
    limited: bool,
    ready: bool,
}

struct Parts {
    pid: Pid,
    pidfd: OwnedFd,
    cgroup: cgroup::Handle,
}

impl Progress {
    /// Takes in reports until both sides are done.
    fn listen(&mut self, channel: &Channel) -> Result<()> {
        while !(self.limited && self.ready) {
            let Some((report, fds)) = channel.receive()? else {
                break;
            };
            match report {
                Report::Begun { cgroup, namespaces } => {
                    self.cgroup = Some(cgroup::Handle::new(&cgroup)?);
                    self.namespaces = namespaces;
                }
                Report::Hooks {} => {
                    let file = fds.into_iter().next().map(File::from);
                    self.hooks = file.map(hooks::Plan::from_file).transpose()?;
                }
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
        }
        Ok(())
    }

    fn finish(&self, stage: &WaitStatus) -> Result<Parts> {
        if !(self.limited && self.ready) {
            return Err(Error::Ended {
                what: "container set-up",
                status: format!("{stage:?}"),
            });
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

    /// Kills and waits for the init and removes the cgroup. The first failure is what the caller learns of; one in
    /// here would hide it.
    fn undo(&mut self, channel: &Channel) {
        if let Some(pid) = self.init.take().or_else(|| channel.pending_init()) {
            // our own child, which nobody has waited for
            let _ = kill(pid, Signal::SIGKILL);
            let _ = wait(pid);
        }
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.remove();
        }
        // whatever hooks have made, these undo
        if let Some(hooks) = self.hooks.take() {
            let _ = hooks.run(hooks::Kind::Poststop, 0, &[]);
        }
    }
}
