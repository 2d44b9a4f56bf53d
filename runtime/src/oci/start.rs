//! `start`: lets a created container's init go, and hears what came of it.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;

use super::args::Given;
use super::bundle::start_connection;
use super::state::{Container, SOCKET, Status};
use super::{Context, only_id, refused};
use crate::container::{hooks, start_over};
use crate::error::{Context as _, Kind, Result};
use crate::sys::process::pidfd_kill;

pub(super) fn start(context: &mut Context, given: &Given) -> Result<i32> {
    let container = Container::load(context, only_id("start", given)?)?;
    let wrong = |text: &str| Err(refused(Kind::InvalidState, text));
    match container.status() {
        Status::Created => {}
        Status::Running => return wrong("cannot start an already running container"),
        Status::Paused => return wrong("cannot start a container in the paused state"),
        Status::Stopped => return wrong("cannot start a container that has stopped"),
    }
    let connection = start_connection(&container.folder.path)?;
    // whoever takes the name away is the one who starts it
    let socket = container.folder.path.join(SOCKET);
    match fs::remove_file(&socket) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return wrong("cannot start an already running container");
        }
        other => other.path("remove", &socket)?,
    }
    start_over(connection)?;
    run_hooks(&container)?;
    Ok(0)
}

/// Its program runs by now, and must not go on if one fails.
fn run_hooks(container: &Container) -> Result<()> {
    let (spec, record) = (container.folder.config()?, &container.record);
    let Some(plan) = hooks::Plan::read(&spec, &record.id, &record.bundle)? else {
        return Ok(());
    };
    plan.run(hooks::Kind::Poststart, record.pid, &[])
        .inspect_err(|_| {
            if let Ok(pidfd) = container.pidfd() {
                // it may have ended by itself
                let _ = pidfd_kill(pidfd.as_fd(), nix::libc::SIGKILL);
            }
        })
}
