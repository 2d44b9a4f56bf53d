//! From the runtime's process to the container's program, for a container's init and for an exec alike.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{FileStat, Mode, fstat, makedev, umask};
use nix::unistd::{chdir, getcwd};
use oci_spec::runtime::Process;

use super::caps::Sets;
use super::{env, limits};
use crate::error::{Context, Error, ExecError, Result};
use crate::seccomp::Filter;
use crate::sys::cred::{set_groups, set_ids};
use crate::sys::fd::{cloexec_from, inherit, install};
use crate::sys::process::reset_signals;
use crate::sys::term::set_controlling;

/// A step that is given an environment.
pub(crate) type Before<'a> = dyn Fn(&[String]) -> Result<()> + 'a;

/// Everything that a process takes along into its program.
pub(crate) struct Launch<'a> {
    pub(crate) process: &'a Process,
    pub(crate) filter: Option<Filter>,
    /// What becomes 0, 1 and 2.
    pub(crate) stdio: [OwnedFd; 3],
    /// The container's root, through which its passwd is read.
    pub(crate) root: OwnedFd,
    /// How many descriptors from 3 on it inherits as well.
    pub(crate) preserve_fds: u32,
    /// What comes right before the program, as confined as that; it is given the program's environment.
    pub(crate) before: Option<&'a Before<'a>>,
}

/// Installs standard input, output and error; 0 to 2 are the only descriptors that the program inherits.
///
/// The three given must not themselves be 0 to 2 in another order: one would cover another before it is copied.
pub(crate) fn install_streams(stdio: &[OwnedFd; 3]) -> Result<()> {
    for (target, fd) in stdio.iter().enumerate() {
        install(fd.as_fd(), target as i32).call("install standard stream")?;
    }
    Ok(())
}

/// The host's /dev/null stands for the container's own, where that has one: a process that holds a file of another mount
/// namespace can't be checkpointed.
fn reopen_null(stdio: &[OwnedFd; 3]) -> Result<()> {
    let rdev = |st: &FileStat| (st.st_mode & libc::S_IFMT == libc::S_IFCHR).then_some(st.st_rdev);
    let null = Some(makedev(1, 3));
    for (target, fd) in stdio.iter().enumerate() {
        if rdev(&fstat(fd).call("stat standard stream")?) != null {
            continue;
        }
        let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL).call("fcntl F_GETFL")?);
        let mode = (flags & OFlag::O_ACCMODE)
            | OFlag::O_CLOEXEC
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY;
        let Ok(own) = open("/dev/null", mode, Mode::empty()) else {
            continue;
        };
        if fstat(&own).is_ok_and(|st| rdev(&st) == null) {
            fcntl(&own, FcntlArg::F_SETFL(flags)).call("fcntl F_SETFL")?;
            install(own.as_fd(), target as i32).call("install standard stream")?;
        }
    }
    Ok(())
}

fn install_stdio(stdio: &[OwnedFd; 3], terminal: bool) -> Result<()> {
    install_streams(stdio)?;
    reopen_null(stdio)?;
    if terminal {
        set_controlling(stdio[0].as_fd()).call("set controlling terminal")?;
    }
    Ok(())
}

/// Becomes the program; returns only with the reason why it could not.
///
/// The caller leads a session, is in the container's namespaces and cgroup, and has all privileges there.
pub(crate) fn run(launch: &Launch<'_>) -> Error {
    let prepared = prepare(launch).and_then(|(args, env)| {
        if let Some(before) = launch.before {
            let text = |entry: &CString| entry.to_string_lossy().into_owned();
            before(&env.iter().map(text).collect::<Vec<_>>())?;
        }
        Ok((args, env))
    });
    match prepared {
        Ok((args, env)) => Error::Exec(env::exec(&args, &env)),
        Err(e) => e,
    }
}

/// Whether the program can be found, for a caller who wants to know before it is started.
pub(crate) fn check_program(process: &Process) -> Result<()> {
    env::check(process).map_err(Error::Exec)
}

fn prepare(launch: &Launch<'_>) -> Result<(Vec<CString>, Vec<CString>)> {
    let process = launch.process;
    let args = arguments(process)?;
    let user = process.user();
    let env = env::prepare(
        process.env().as_deref().unwrap_or_default(),
        user.uid(),
        launch.root.as_fd(),
    )?;
    install_stdio(&launch.stdio, process.terminal().unwrap_or(false))?;
    cloexec_from(3).call("close_range")?;
    inherit(3, launch.preserve_fds).call("preserve descriptors")?;
    reset_signals();
    limits::set_rlimits(process.rlimits().as_deref().unwrap_or_default())?;
    if let Some(priority) = process.io_priority() {
        limits::set_io(priority)?;
    }
    if let Some(scheduler) = process.scheduler() {
        limits::set_scheduling(scheduler)?;
    }
    let no_new_privs = process.no_new_privileges().unwrap_or(false);
    // without no_new_privs the filter takes CAP_SYS_ADMIN, so it must come before that is dropped; it then has to allow
    // what follows, as every profile for programs that change their user does
    if !no_new_privs {
        load(launch.filter.as_ref())?;
    }
    let entered = enter_cwd(process).is_ok();
    become_user(process)?;
    if !entered {
        enter_cwd(process)?;
    }
    check_cwd(process)?;
    umask(Mode::from_bits_truncate(user.umask().unwrap_or(0o022)));
    if no_new_privs {
        set_no_new_privs().call("set no_new_privs")?;
        load(launch.filter.as_ref())?;
    }
    Ok((args, env))
}

fn arguments(process: &Process) -> Result<Vec<CString>> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("process.args", "names no program"));
    }
    args.iter()
        .enumerate()
        .map(|(i, arg)| {
            CString::new(arg.as_str())
                .map_err(|_| Error::invalid(format!("process.args[{i}]"), "holds a NUL"))
        })
        .collect()
}

fn load(filter: Option<&Filter>) -> Result<()> {
    filter.map_or(Ok(()), Filter::load)
}

/// Groups, user and capabilities, in the order in which each still has the privilege that it needs.
fn become_user(process: &Process) -> Result<()> {
    let user = process.user();
    let mut caps = Sets::read(process.capabilities().as_ref());
    caps.prepare()?;
    match set_groups(user.additional_gids().as_deref().unwrap_or_default()) {
        // a user namespace whose maker may not change groups
        Err(Errno::EPERM) if user.additional_gids().as_ref().is_none_or(Vec::is_empty) => {}
        other => other.call("setgroups")?,
    }
    set_ids(user.uid(), user.gid()).map_err(|errno| match errno {
        Errno::EINVAL => Error::invalid(
            "process.user",
            format!(
                "{}:{} is not mapped into the user namespace",
                user.uid(),
                user.gid()
            ),
        ),
        _ => Error::sys("set user and group", errno),
    })?;
    caps.apply()
}

/// Tried as root first, for folders that only it may enter, and then as the user, for file systems that let only it.
fn enter_cwd(process: &Process) -> Result<()> {
    let cwd = process.cwd();
    if !cwd.is_absolute() {
        return Err(Error::invalid(
            "process.cwd",
            format!("{cwd:?} is not an absolute path"),
        ));
    }
    chdir(cwd).map_err(|errno| {
        Error::Exec(ExecError::Cwd {
            cwd: cwd.clone(),
            errno,
        })
    })
}

/// A folder that lies outside the root (reached through a descriptor of the host, CVE-2024-21626) has no path.
fn check_cwd(process: &Process) -> Result<()> {
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        // unreadable parents are no proof of an escape
        Err(Errno::EACCES) => Ok(()),
        Ok(_) | Err(_) => Err(Error::Exec(ExecError::Cwd {
            cwd: process.cwd().clone(),
            errno: Errno::ENOENT,
        })),
    }
}

/// The highest descriptor number that a standard stream may come in on is 2; others must lie above.
pub(crate) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    let copy = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3)).call("dup")?;
    Ok(crate::sys::fd::own(copy))
}
