//! `exec`: a further process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::args::Given;
use super::bundle::{check_terminal, preserved_fds, send_console, send_pidfd, write_pid_file};
use super::create::own_stdio;
use super::foreground::{self, Watched};
use super::state::{Container, Status};
use super::{Context, process, refused};
use crate::cgroup::{self, Below};
use crate::container::{self, ExecTarget, InitStdio, Told};
use crate::error::{Error, Kind, Result};

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
    let process = process::build(given, &spec, command)?;
    let (terminal, detached) = (process.terminal().unwrap_or(false), given.is_on("detach"));
    check_terminal(given, terminal, detached)?;
    if !detached {
        foreground::prepare(false)?;
    }
    let pidfd = container.pidfd()?;
    let (group, below) = group(given, &container)?;
    let told = Told {
        spec: &spec,
        id,
        bundle: &container.record.bundle,
    };
    let machine = crate::process::Machine::of(&spec);
    let target = ExecTarget {
        init_pidfd: pidfd.as_fd(),
        cgroup: &group,
        namespaces: container.record.namespaces,
        terminal_newlines: false,
        adopts_orphans: false,
        preserve_fds: preserved_fds(given)?,
        foreign: None,
        resctrl: container.record.resctrl.as_ref(),
        below: &below,
        machine: machine.as_ref(),
        told: Some(&told),
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

/// The container's cgroup, or with `--cgroup` one below it: in all hierarchies, or in those of the controllers named.
fn group(given: &Given, container: &Container) -> Result<(cgroup::Handle, Vec<Below>)> {
    let mut handle = container.cgroup.clone();
    let mut below = Vec::new();
    for flag in given.all("cgroup").filter(|flag| !flag.is_empty()) {
        let (controllers, path) = match flag.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, flag),
        };
        let path = sub_path(path)?;
        match controllers {
            None => handle = sub_group(&container.cgroup, &path)?,
            Some(controllers) => {
                for controller in controllers.split(',') {
                    below.push(sub_group_of(controller, &path)?);
                }
            }
        }
    }
    Ok((handle, below))
}

/// A path that stays below.
fn sub_path(path: &str) -> Result<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let is_below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    match path.components().all(is_below) {
        true => Ok(path.to_owned()),
        false => Err(refused(
            Kind::InvalidArgument,
            format!("bad sub cgroup path: {}", path.display()),
        )),
    }
}

fn sub_group(cgroup: &cgroup::Handle, path: &Path) -> Result<cgroup::Handle> {
    if path.as_os_str().is_empty() {
        return Ok(cgroup.clone());
    }
    let path = cgroup.path().join(path);
    let handle = cgroup::Handle::new(path.to_str().unwrap_or_default())?;
    match cgroup::manager()
        .folders(handle.path())
        .iter()
        .any(|folder| folder.exists())
    {
        true => Ok(handle),
        false => Err(Error::io("error adding pid to cgroup", path, Errno::ENOENT)),
    }
}

fn sub_group_of(controller: &str, path: &Path) -> Result<Below> {
    let known = cgroup::hierarchies()
        .iter()
        .any(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller));
    match known {
        true => Ok(Below {
            controller: controller.to_owned(),
            path: path.to_owned(),
        }),
        false => Err(refused(
            Kind::InvalidArgument,
            format!("unknown controller {controller:?}"),
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
