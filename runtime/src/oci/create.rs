//! `create` and `run`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::Spec;

use super::args::Given;
use super::bundle::{
    Bundle, check_terminal, preserved_fds, send_console, send_pidfd, start_listener, write_pid_file,
};
use super::console::copy_size;
use super::foreground::{self, Watched};
use super::state::{Container, Folder, Record, stat_of};
use super::{Context, delete, only_id};
use crate::checkpoint::Restore;
use crate::container::{self, InitStdio, Options, Prepared};
use crate::error::{Context as _, Error, Result};
use crate::log::{Stamp, now};

/// Within a container's folder: what is needed while it is restored.
pub(super) const RESTORE: &str = "restore";

/// `create`: up to the point where the init waits for `start`.
pub(super) fn create(context: &mut Context, given: &Given) -> Result<i32> {
    let id = only_id("create", given)?;
    let bundle = Bundle::load(given)?;
    check_terminal(given, bundle.has_terminal(), true)?;
    let (_container, _prepared) = make(context, given, id, &bundle, true, None)?;
    Ok(0)
}

/// `run`: to the end of its process, or with `--detach` until it runs.
pub(super) fn run(context: &mut Context, given: &Given) -> Result<i32> {
    let id = only_id("run", given)?;
    let detached = given.is_on("detach");
    let bundle = Bundle::load(given)?;
    check_terminal(given, bundle.has_terminal(), detached)?;
    if !detached {
        foreground::prepare(!given.is_on("no-subreaper"))?;
    }
    let (container, mut prepared) = make(context, given, id, &bundle, false, None)?;
    if let Some(master) = prepared.console.as_ref().filter(|_| !detached) {
        copy_size(master.as_fd());
    }
    if let Err(error) = container::start(&mut prepared) {
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
    if !given.is_on("keep") {
        delete::destroy(&container)?;
    }
    outcome
}

/// Makes the container and makes it known; a failure leaves nothing behind.
pub(super) fn make(
    context: &mut Context,
    given: &Given,
    id: &str,
    bundle: &Bundle,
    waits: bool,
    restore: Option<Restore>,
) -> Result<(Container, Prepared)> {
    let preserve_fds = preserved_fds(given)?;
    let folder = Folder::make(&context.root, id)?;
    let options = Options {
        id: id.to_owned(),
        bundle: bundle.path.clone(),
        preserve_fds,
        no_pivot: given.is_on("no-pivot"),
        cgroups: context.cgroups,
        restore,
        ..Options::default()
    };
    let made = prepare(context, bundle, &folder, options, waits);
    let mut prepared = match made {
        Ok(prepared) => prepared,
        Err(error) => {
            // the first failure is what the caller is to learn of
            let _ = folder.remove();
            return Err(error);
        }
    };
    for warning in prepared.warnings.drain(..) {
        context.log.warn(&warning);
    }
    let record = record(id, bundle, &prepared, filter(context, &bundle.spec)?);
    let container = Container {
        folder,
        cgroup: prepared.cgroup.clone(),
        record,
    };
    match publish(given, bundle, &container, &prepared) {
        Ok(()) => Ok((container, prepared)),
        Err(error) => {
            let _ = delete::destroy(&container);
            Err(error)
        }
    }
}

fn prepare(
    context: &Context,
    bundle: &Bundle,
    folder: &Folder,
    mut options: Options,
    waits: bool,
) -> Result<Prepared> {
    folder.save_config(&bundle.text)?;
    options.seccomp_filter = filter(context, &bundle.spec)?;
    if let Some(restore) = &mut options.restore {
        restore.work = folder.path.join(RESTORE);
        std::fs::create_dir(&restore.work).path("create folder", &restore.work)?;
    }
    let listener = waits.then(|| start_listener(&folder.path)).transpose()?;
    container::prepare_waiting(&options, own_stdio()?, listener)
}

/// The compiled filter of a configuration; what was compiled before is found again by its content. One with a listener is
/// compiled when it is loaded.
pub(super) fn filter(context: &Context, spec: &Spec) -> Result<Option<PathBuf>> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    profile
        .filter(|profile| profile.listener_path().is_none())
        .map(|profile| crate::seccomp::compile(profile, &context.root.join(".seccomp")))
        .transpose()
}

/// The caller's own standard streams.
pub(super) fn own_stdio() -> Result<InitStdio> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd> {
        fd.try_clone_to_owned().call("dup standard stream")
    };
    Ok(InitStdio {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

fn record(id: &str, bundle: &Bundle, prepared: &Prepared, filter: Option<PathBuf>) -> Record {
    let pid = prepared.pid.as_raw();
    Record {
        id: id.to_owned(),
        pid,
        start_time: stat_of(pid).map_or(0, |(_, start)| start),
        oci_version: bundle.spec.version().clone(),
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs(),
        created: String::from_utf8_lossy(Stamp::default().format(now())).into_owned(),
        annotations: bundle
            .spec
            .annotations()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        cgroup: prepared.cgroup.name().to_owned(),
        namespaces: prepared.namespaces,
        seccomp_filter: filter,
        resctrl: prepared.resctrl.clone(),
    }
}

/// Everything that others see of a container that has been made.
fn publish(given: &Given, bundle: &Bundle, container: &Container, prepared: &Prepared) -> Result<()> {
    container.folder.save(&container.record)?;
    if let Some(path) = given.get("console-socket").filter(|_| bundle.has_terminal()) {
        let master = prepared
            .console
            .as_ref()
            .ok_or_else(|| Error::invalid("process.terminal", "no terminal was made"))?;
        send_console(path, master)?;
    }
    send_pidfd(given, &prepared.pidfd)?;
    write_pid_file(given, container.record.pid)
}
