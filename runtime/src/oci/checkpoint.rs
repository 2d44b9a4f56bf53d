//! `checkpoint` and `restore`, by criu.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::Given;
use super::bundle::{Bundle, check_terminal};
use super::create::make;
use super::foreground::{self, Watched};
use super::state::{Container, Status};
use super::{Context, delete, only_id, refused};
use crate::checkpoint::{self, Connections, Dump, Frozen, Restore};
use crate::container;
use crate::error::{Context as _, Error, Kind, Result};

/// Where images lie unless `--image-path` says otherwise.
const IMAGES: &str = "checkpoint";
/// How long processes may take to stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// `checkpoint`: dumps a container, and deletes it unless it is to go on.
pub(super) fn checkpoint(context: &mut Context, given: &Given) -> Result<i32> {
    let container = Container::load(context, only_id("checkpoint", given)?)?;
    let status = container.status();
    if !matches!(status, Status::Running | Status::Paused) {
        let message = format!("Container cannot be checkpointed in {} state", status.name());
        return Err(refused(Kind::InvalidState, message));
    }
    let images = folder(given, "image-path")?;
    for path in [Some(images.clone()), work(given)?].iter().flatten() {
        fs::create_dir_all(path).path("create folder", path)?;
    }
    let frozen = match status {
        Status::Paused => None,
        _ => Some(Frozen::freeze(std::slice::from_ref(&container.cgroup), PATIENCE)?),
    };
    let leave_running = given.is_on("leave-running");
    checkpoint::dump(&Dump {
        pid: container.record.pid,
        spec: &container.folder.config()?,
        cgroup: &container.cgroup,
        work: &work(given)?.unwrap_or_else(|| images.clone()),
        images: &images,
        criu: &context.criu()?,
        leave_running,
        timeout: None,
        connections: connections(given),
        caller: None,
    })?;
    drop(frozen);
    if !leave_running && let Some(warning) = delete::destroy(&container)? {
        context.log.warn(&warning);
    }
    Ok(0)
}

/// `restore`: to the end of what was restored, or with `--detach` until it runs.
pub(super) fn restore(context: &mut Context, given: &Given) -> Result<i32> {
    let id = only_id("restore", given)?;
    let detached = given.is_on("detach");
    let bundle = Bundle::load(given)?;
    check_terminal(given, bundle.has_terminal(), detached)?;
    if !detached {
        foreground::prepare(true)?;
    }
    let images = folder(given, "image-path")?;
    let restore = Restore {
        images,
        // in the container's own folder
        work: PathBuf::new(),
        criu: context.criu()?,
        connections: connections(given),
        foreign: false,
    };
    let made = make(context, given, id, &bundle, false, Some(restore));
    let (container, mut prepared) = made?;
    let started = container::start(&mut prepared);
    if let Some(path) = work(given)? {
        save_logs(&container.folder.path.join(super::create::RESTORE), &path);
    }
    if let Err(error) = started {
        delete::destroy(&container)?;
        return Err(error);
    }
    if detached {
        return Ok(0);
    }
    let outcome = foreground::wait(&Watched {
        pid: prepared.pid,
        pidfd: prepared.pidfd.as_fd(),
        console: prepared.console.as_ref().map(AsFd::as_fd),
    });
    delete::destroy(&container)?;
    outcome
}

/// For people, and no reason to fail.
fn save_logs(from: &Path, to: &Path) {
    let _ = fs::create_dir_all(to);
    for name in ["restore.log", "stats-restore"] {
        let _ = fs::copy(from.join(name), to.join(name));
    }
}

fn folder(given: &Given, flag: &str) -> Result<PathBuf> {
    let path = given.get(flag).filter(|path| !path.is_empty()).unwrap_or(IMAGES);
    std::path::absolute(path).map_err(|e| Error::io("resolve", path, e))
}

fn work(given: &Given) -> Result<Option<PathBuf>> {
    let asked = given.get("work-path").filter(|path| !path.is_empty());
    asked.map(|_| folder(given, "work-path")).transpose()
}

fn connections(given: &Given) -> Connections {
    Connections {
        tcp_established: given.is_on("tcp-established"),
        tcp_close: false,
        ext_unix_sk: given.is_on("ext-unix-sk"),
        file_locks: given.is_on("file-locks"),
        shell_job: given.is_on("shell-job"),
        link_remap: given.is_on("link-remap"),
    }
}
