//! A further process in a running container: setns and clone, no helper program.
//!
//! ```text
//!   caller            stage                                  process
//!     exec ── fork ──▶ joins cgroup and namespaces
//!     │                └─ clone (sibling) ──────────────────▶ session, terminal, rlimits, user, …
//!     │ ◀─ Init{pid} ─ exit                                   │
//!     │ ◀─ end of file: execve succeeded, or Failed ───────── execve
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::prctl::{set_child_subreaper, set_dumpable};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, setsid};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

#[cfg(feature = "seccomp-compile")]
use super::Told;
use super::ended::Ended;
use super::{Entered, ExecStarted, ExecTarget, check};
use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Kind, Result};
use crate::foreign;
use crate::monitor::exec::kill_tree;
use crate::process::{self, Affinity, Console, Launch};
use crate::rootfs::open_proc;
#[cfg(feature = "seccomp-compile")]
use crate::seccomp;
use crate::seccomp::Filter;
use crate::sys::cred::become_root;
use crate::sys::fd::close_but_preserved;
use crate::sys::process::{Forked, clone, exit_now, fork, fork_into, pid_of, pidfd_open, setns, wait};

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
        let pid = self.progress.pid.or_else(|| self.channel.pending_init());
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
            Report::Begun { .. } | Report::Hooks {} | Report::Resctrl { .. } | Report::Limited { .. } => {
                return Err(Error::sys("exec: unexpected report", Errno::EPROTO));
            }
        }
        Ok(())
    }
}

struct Stage<'a> {
    target: &'a ExecTarget<'a>,
    /// The doors that it has still to go through; without them it joins the slow way.
    entry: Option<cgroup::Entry>,
    process: &'a Process,
    filter: Option<&'a Path>,
    stdio: [OwnedFd; 3],
    channel: &'a Channel,
}

impl Stage<'_> {
    fn run(self) -> Result<()> {
        let Self {
            target,
            entry,
            process,
            filter,
            stdio,
            channel,
        } = self;
        set_dumpable(false).call("prctl PR_SET_DUMPABLE")?;
        // the process inherits processors, cgroup, namespaces and score
        process::set_affinity(process, Affinity::Initial)?;
        match entry {
            Some(entry) => entry.enter()?,
            None => join(target)?,
        }
        match process.exec_cpu_affinity() {
            None => process::reset_affinity(),
            Some(_) => process::set_affinity(process, Affinity::Final)?,
        }
        if let Some(groups) = target.resctrl {
            groups.enter(0)?;
        }
        let keep = [
            stdio[0].as_fd(),
            stdio[1].as_fd(),
            stdio[2].as_fd(),
            channel.fd(),
            target.init_pidfd,
        ];
        close_but_preserved(&keep, target.preserve_fds).call("close_range")?;
        let filter = filter.map(Filter::read).transpose()?;
        if let Some(told) = target.spec {
            apply_machine(told.spec)?;
        }
        #[cfg(feature = "seccomp-compile")]
        let listened = Listened::connect(target, filter.is_some())?;
        let proc = open_proc()?;
        let mut warnings = Vec::new();
        if let Some(score) = process.oom_score_adj() {
            warnings.extend(process::set_oom_score(proc.as_fd(), score)?);
        }
        // inherited by the process, which executes nothing before its program
        process::set_labels_for_exec(proc.as_fd(), "process", process)?;
        drop(proc);
        setns(target.init_pidfd, target.namespaces).map_err(|errno| match errno {
            Errno::ESRCH => Error::Remote {
                kind: crate::error::Kind::InvalidState,
                message: "cannot exec in a stopped container".to_owned(),
            },
            _ => Error::sys("join the container's namespaces", errno),
        })?;
        if target.namespaces & LinuxNamespaceType::User as i32 != 0 {
            become_root().call("become root of the user namespace")?;
        }
        match clone(0, true, None).call("clone exec process")? {
            Forked::Parent(pid) => channel.report(&Report::Init { pid: pid.as_raw() }),
            Forked::Child(_child) => {
                #[cfg(feature = "seccomp-compile")]
                let filter = match listened.map(Listened::tell).transpose() {
                    Ok(own) => own.or(filter),
                    Err(error) => {
                        channel.report_failure(&error);
                        exit_now(1);
                    }
                };
                let error = match enter(target, process, stdio, channel, warnings) {
                    Ok((root, stdio)) => process::run(&Launch {
                        process,
                        filter,
                        stdio,
                        root,
                        preserve_fds: target.preserve_fds,
                        before: None,
                    }),
                    Err(e) => e,
                };
                channel.report_failure(&error);
                exit_now(1);
            }
        }
    }
}

/// What the init has besides its process's own settings.
fn apply_machine(spec: &Spec) -> Result<()> {
    process::set_execution_domain(spec)?;
    match spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.memory_policy().as_ref())
    {
        Some(policy) => process::apply_memory_policy(policy),
        None => Ok(()),
    }
}

/// A filter whose listener is to be told of the process, once that exists.
#[cfg(feature = "seccomp-compile")]
struct Listened<'a> {
    told: &'a Told<'a>,
    waiting: seccomp::Waiting,
    /// The host's procfs.
    proc: OwnedFd,
    init: Pid,
}

#[cfg(feature = "seccomp-compile")]
impl<'a> Listened<'a> {
    /// That of a container whose filter isn't at hand as a file.
    fn connect(target: &'a ExecTarget<'a>, has_filter: bool) -> Result<Option<Self>> {
        let Some(told) = target.spec.filter(|_| !has_filter) else {
            return Ok(None);
        };
        let waiting = seccomp::connect(told.spec)?.filter(seccomp::Waiting::has_listener);
        waiting
            .map(|waiting| {
                Ok(Self {
                    told,
                    waiting,
                    proc: open_proc()?,
                    init: pid_of(target.init_pidfd)?,
                })
            })
            .transpose()
    }

    /// In the process.
    fn tell(self) -> Result<Filter> {
        let told = seccomp::Told {
            id: self.told.id,
            bundle: self.told.bundle,
            pid: process::pid_seen_by(self.proc.as_fd())?,
            status: "running",
            init: self.init.as_raw(),
        };
        self.waiting.tell(self.told.spec, &told)
    }
}

/// Moves this process into the container's cgroup.
fn join(target: &ExecTarget<'_>) -> Result<()> {
    match target.cgroup.join(Pid::from_raw(0)) {
        Err(e) if e.errno() == Some(Errno::EBUSY) => target
            .cgroup
            .entry_beside(pid_of(target.init_pidfd)?)?
            .enter_all(),
        other => other,
    }
}

/// Session, terminal, and the root to find the user in.
fn enter(
    target: &ExecTarget<'_>,
    process: &Process,
    stdio: [OwnedFd; 3],
    channel: &Channel,
    warnings: Vec<String>,
) -> Result<(OwnedFd, [OwnedFd; 3])> {
    setsid().call("setsid")?;
    if target.adopts_orphans {
        // kept over execve
        set_child_subreaper(true).call("prctl PR_SET_CHILD_SUBREAPER")?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(AT_FDCWD, "/", flags, Mode::empty()).path("open", "/")?;
    if !warnings.is_empty() {
        channel.report(&Report::Ready { warnings })?;
    }
    if !process.terminal().unwrap_or(false) {
        return Ok((root, stdio));
    }
    let ptmx = crate::rootfs::open_in_root(
        root.as_fd(),
        Path::new("/dev/pts/ptmx"),
        OFlag::O_RDWR | OFlag::O_NOCTTY,
    )?;
    let Console { master, slave } = process::open_terminal(ptmx, process, target.terminal_newlines)?;
    channel.report_with(&Report::Console {}, &[master.as_fd()])?;
    let copy = || slave.try_clone().path("dup", "terminal");
    Ok((root, [copy()?, copy()?, copy()?]))
}
