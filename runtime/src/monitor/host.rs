//! The real backend: this crate's own functions, and the kernel's word on which processes have ended.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use super::backend::{Backend, Ending, Job, Prepared, Started};
use super::note::note;
use crate::checkpoint::Restore;
use crate::container::{self, InitStdio};
use crate::error::{Context, Error, Result};
use crate::protocol::{CreateContainer, ExecRequest, SandboxSetup};
use crate::rootfs::BlankMounts;
use crate::{sandbox, sys};

/// The kernel.
#[derive(Debug)]
pub(super) struct Host {
    signals: SignalFd,
    /// The signals that had come were taken before the statuses are asked for, so that none is lost in between.
    is_quiet: bool,
    /// What the containers' mount namespaces start from.
    blank: Option<BlankMounts>,
}

impl Host {
    /// Blocks SIGCHLD, to be read as a descriptor. The set-up of a container's processes unblocks it.
    pub(super) fn new(blank: Option<BlankMounts>) -> Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().call("sigprocmask")?;
        let signals =
            SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).call("signalfd")?;
        Ok(Self {
            signals,
            is_quiet: false,
            blank,
        })
    }
}

impl Backend for Host {
    type Container = container::Prepared;
    type Making = Making;
    type Entering = Entering;

    fn setup_sandbox(&mut self, dir: &Path, setup: &SandboxSetup) -> Result<Option<i32>> {
        Ok(sandbox::setup(dir, setup)?.map(Pid::as_raw))
    }

    fn prepare(
        &mut self,
        request: &CreateContainer,
        from: Option<&Restore>,
        stdio: InitStdio,
    ) -> Result<Making> {
        let options = container::Options {
            restore: from.cloned(),
            blank: self.blank.clone(),
            ..container::Options::from(request)
        };
        Ok(Making {
            id: request.id.clone(),
            inner: container::Making::begin(&options, stdio, None)?,
        })
    }

    fn start(&mut self, container: &mut Self::Container) -> Result<()> {
        container::begin_start(container)
    }

    fn start_fd<'a>(&self, container: &'a Self::Container) -> BorrowedFd<'a> {
        container.start.as_fd()
    }

    fn poll_start(&mut self, container: &mut Self::Container) -> Option<Result<()>> {
        container::poll_start(container)
    }

    fn exec(
        &mut self,
        container: &Self::Container,
        request: &ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<Entering> {
        let process = with_oom_score(&request.process, container.pid);
        let filter = request.seccomp_filter.as_deref();
        let target = container::ExecTarget {
            adopts_orphans: true,
            ..container.exec_target()
        };
        Ok(Entering {
            container: request.container.clone(),
            inner: container::Entering::begin(&target, &process, filter, stdio)?,
            ended: VecDeque::new(),
        })
    }

    fn signal(&mut self, container: &Self::Container, signal: i32) -> Result<()> {
        // Its init may be a helper of that runtime's, which alone knows what is meant by other signals.
        if let Some(foreign) = &container.foreign
            && !matches!(signal, 0 | nix::libc::SIGKILL)
        {
            return foreign.signal(signal).map(drop);
        }
        match sys::process::pidfd_kill(container.pidfd.as_fd(), signal) {
            Err(Errno::ESRCH) => Ok(()), // it has ended, and is about to be reaped
            other => other.call("pidfd_send_signal"),
        }
    }

    fn signal_all(&mut self, container: &Self::Container, signal: i32) -> Result<()> {
        if signal == nix::libc::SIGKILL {
            return kill_all(container);
        }
        let signal = if signal == 0 {
            None
        } else {
            Some(Signal::try_from(signal).map_err(|_| no_signal(signal))?)
        };
        for pid in container.cgroup.processes()? {
            match kill(pid, signal) {
                Err(Errno::ESRCH) => {}
                other => other.call("kill")?,
            }
        }
        Ok(())
    }

    fn oom_killed(&mut self, container: &Self::Container, ending: Ending) -> bool {
        let by_kill = ending == Ending::Signal(nix::libc::SIGKILL);
        container.oom_watch.has_killed(by_kill)
    }

    fn remove(&mut self, container: &Self::Container) -> Result<()> {
        for warning in container::remove(container)? {
            note(format_args!("{warning}"));
        }
        Ok(())
    }

    fn kill_tree(&mut self, pid: i32) {
        super::exec::kill_tree(pid);
    }

    fn exits(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    fn reap(&mut self) -> Option<(i32, Ending)> {
        if !self.is_quiet {
            while let Ok(Some(_)) = self.signals.read_signal() {}
            self.is_quiet = true;
        }
        loop {
            // This process is the only waiter, so that any child may be asked for.
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => return Some((pid.as_raw(), Ending::Code(code))),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    return Some((pid.as_raw(), Ending::Signal(signal as i32)));
                }
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => {
                    self.is_quiet = false;
                    return None;
                }
            }
        }
    }
}

/// Kills all processes of a container. Where they are those of one pid namespace, the kernel knows them better than any
/// list in ten hierarchies.
fn kill_all(container: &container::Prepared) -> Result<()> {
    if !container.owns_pids {
        return container.cgroup.kill_all();
    }
    match sys::process::pidfd_kill(container.pidfd.as_fd(), nix::libc::SIGKILL) {
        Err(Errno::ESRCH) => return Ok(()), // and so have all others
        other => other.call("pidfd_send_signal")?,
    }
    container.cgroup.thaw();
    Ok(())
}

/// A container in the making.
#[derive(Debug)]
pub(super) struct Making {
    id: String,
    inner: container::Making,
}

impl Job for Making {
    type Output = Prepared<container::Prepared>;

    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd()
    }

    fn is_listening(&self) -> bool {
        self.inner.is_listening()
    }

    fn child_ended(&mut self, pid: i32, ending: Ending) {
        self.inner.child_ended(pid, &ending);
    }

    fn poll(&mut self) -> bool {
        self.inner.poll()
    }

    fn finish(self) -> Result<Self::Output> {
        let mut prepared = self.inner.finish()?;
        tell(&self.id, &mut prepared.warnings);
        Ok(Prepared {
            pid: prepared.pid.as_raw(),
            console: prepared.console.take(),
            container: prepared,
        })
    }

    fn kill(&mut self) {
        self.inner.kill();
    }
}

/// The ends of processes that an exec remembers while it is in the making, of which one may be its own.
const MOST_ENDED: usize = 1024;

/// A further process in the making.
#[derive(Debug)]
pub(super) struct Entering {
    container: String,
    inner: container::Entering,
    ended: VecDeque<(i32, Ending)>,
}

impl Job for Entering {
    type Output = Started;

    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd()
    }

    fn is_listening(&self) -> bool {
        self.inner.is_listening()
    }

    fn child_ended(&mut self, pid: i32, ending: Ending) {
        self.inner.child_ended(pid);
        if self.ended.len() == MOST_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((pid, ending));
    }

    fn poll(&mut self) -> bool {
        self.inner.poll()
    }

    fn finish(self) -> Result<Started> {
        let mut entered = self.inner.finish()?;
        tell(&self.container, &mut entered.warnings);
        let pid = entered.pid.as_raw();
        Ok(Started {
            pid,
            console: entered.console,
            ended: self
                .ended
                .iter()
                .find(|(ended, _)| *ended == pid)
                .map(|(_, ending)| *ending),
        })
    }

    fn kill(&mut self) {
        self.inner.kill();
    }
}

fn tell(container: &str, warnings: &mut Vec<String>) {
    for warning in warnings.drain(..) {
        note(format_args!("container {container}: {warning}"));
    }
}

/// An exec that asks for no score gets its container's; it would inherit the monitor's own, which is next to exempt.
fn with_oom_score(process: &Process, init: Pid) -> Cow<'_, Process> {
    if process.oom_score_adj().is_some() {
        return Cow::Borrowed(process);
    }
    let score = fs::read_to_string(format!("/proc/{init}/oom_score_adj"));
    let mut process = process.clone();
    process.set_oom_score_adj(score.ok().and_then(|text| text.trim().parse().ok()));
    Cow::Owned(process)
}

fn no_signal(signal: i32) -> Error {
    Error::invalid("signal", format!("{signal} can only be sent to the init"))
}
