//! `exec`: a further process in a container.

use std::os::fd::{AsFd, OwnedFd};

use super::args::Given;
use super::bundle::{check_terminal, preserved_fds, send_console, send_pidfd, write_pid_file};
use super::create::own_stdio;
use super::foreground::{self, Watched};
use super::state::{Container, Status};
use super::{Context, process, refused};
use crate::cgroup;
use crate::container::{self, ExecTarget, InitStdio};
use crate::error::{Kind, Result};

pub(super) fn exec(context: &mut Context, given: &Given) -> Result<i32> {
    let Some((id, command)) = given.words.split_first() else {
        return Err(refused(
            Kind::InvalidArgument,
            "pintle-oci: \"exec\" requires a minimum of 1 argument",
        ));
    };
    let container = Container::load(context, id)?;
    check_status(given, &container)?;
    let spec = container.folder.config()?;
    let is_filtered = spec
        .linux()
        .as_ref()
        .is_some_and(|linux| linux.seccomp().is_some());
    if is_filtered && container.record.seccomp_filter.is_none() {
        let text =
            "exec in a container whose seccomp profile has a listener is not supported by this version";
        return Err(refused(Kind::Unsupported, text));
    }
    let process = process::build(given, &spec, command)?;
    let (terminal, detached) = (process.terminal().unwrap_or(false), given.is_on("detach"));
    check_terminal(given, terminal, detached)?;
    if !detached {
        foreground::prepare(false)?;
    }
    let pidfd = container.pidfd()?;
    let group = group(given, &container)?;
    let target = ExecTarget {
        init_pidfd: pidfd.as_fd(),
        cgroup: &group,
        namespaces: container.record.namespaces,
        terminal_newlines: false,
        adopts_orphans: false,
        preserve_fds: preserved_fds(given)?,
        foreign: None,
        resctrl: container.record.resctrl.as_ref(),
    };
    let InitStdio {
        stdin,
        stdout,
        stderr,
    } = own_stdio()?;
    let filter = container.record.seccomp_filter.as_deref();
    let started = container::exec(&target, &process, filter, [stdin, stdout, stderr])?;
    for warning in &started.warnings {
        context.log.warn(warning);
    }
    let console = started.console.as_ref().filter(|_| terminal);
    let is_sent = hand_out(given, console, &started.pidfd, started.pid.as_raw());
    if let Err(error) = is_sent {
        // nobody would know of it
        let _ = crate::sys::process::pidfd_kill(started.pidfd.as_fd(), nix::libc::SIGKILL);
        return Err(error);
    }
    if detached {
        return Ok(0);
    }
    foreground::wait(&Watched {
        pid: started.pid,
        pidfd: started.pidfd.as_fd(),
        console: console
            .filter(|_| given.get("console-socket").is_none())
            .map(AsFd::as_fd),
    })
}

fn check_status(given: &Given, container: &Container) -> Result<()> {
    let wrong = |text: &str| Err(refused(Kind::InvalidState, text));
    match container.status() {
        Status::Stopped => wrong("cannot exec in a stopped container"),
        Status::Paused if !given.is_on("ignore-paused") => {
            wrong("cannot exec in a paused container (use --ignore-paused to override)")
        }
        _ => Ok(()),
    }
}

/// The container's cgroup, or with `--cgroup` one below it.
fn group(given: &Given, container: &Container) -> Result<cgroup::Handle> {
    let Some(below) = given.get("cgroup").filter(|path| !path.is_empty()) else {
        return Ok(container.cgroup.clone());
    };
    if below.contains(':') {
        return Err(refused(
            Kind::InvalidArgument,
            "--cgroup for single controllers is not supported by this version",
        ));
    }
    let path = container.cgroup.path().join(below.trim_start_matches('/'));
    let handle = cgroup::Handle::new(path.to_str().unwrap_or_default())?;
    match cgroup::manager()
        .folders(handle.path())
        .iter()
        .any(|folder| folder.exists())
    {
        true => Ok(handle),
        false => Err(refused(
            Kind::NotFound,
            format!(
                "bad sub cgroup path: {}: no such file or directory",
                path.display()
            ),
        )),
    }
}

fn hand_out(given: &Given, console: Option<&OwnedFd>, pidfd: &OwnedFd, pid: i32) -> Result<()> {
    if let (Some(path), Some(master)) = (given.get("console-socket"), console) {
        send_console(path, master)?;
    }
    send_pidfd(given, pidfd)?;
    write_pid_file(given, pid)
}
