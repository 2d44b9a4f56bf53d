//! The process that enters a container: it joins what the container has, and forks what becomes the program.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::prctl::{set_child_subreaper, set_dumpable};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, setsid};
use oci_spec::runtime::{LinuxNamespaceType, Process};

use crate::cgroup;
use crate::channel::{Channel, Report};
use crate::container::ExecTarget;
#[cfg(feature = "seccomp-compile")]
use crate::container::Told;
use crate::error::{Context, Error, Result};
use crate::process::{self, Affinity, Console, Launch};
use crate::rootfs::open_proc;
#[cfg(feature = "seccomp-compile")]
use crate::seccomp;
use crate::seccomp::Filter;
use crate::sys::cred::become_root;
use crate::sys::fd::close_but_preserved;
use crate::sys::process::{Forked, clone, exit_now, pid_of, setns};

/// What becomes the process, or makes it.
pub(super) struct Stage<'a> {
    pub(super) target: &'a ExecTarget<'a>,
    /// The doors that it has still to go through; without them it joins the slow way.
    pub(super) entry: Option<cgroup::Entry>,
    pub(super) process: &'a Process,
    pub(super) filter: Option<&'a Path>,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) channel: &'a Channel,
}

impl Stage<'_> {
    pub(super) fn run(self) -> Result<()> {
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
        if let Some(machine) = target.machine {
            machine.apply()?;
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
        match clone(0, true, None, channel.birth()).call("clone exec process")? {
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
        let Some(told) = target.told.filter(|_| !has_filter) else {
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
