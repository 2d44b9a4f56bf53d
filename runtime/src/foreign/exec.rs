//! The stage of an exec: has the other runtime run a further process in a container of its.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::unistd::getpid;
use oci_spec::runtime::Process;

use super::call::Streams;
use super::create::Console;
use super::{Foreign, LONG, read_pid};
use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::fd::close_all_but;

/// Runs in a forked child, which ends when this returns.
pub(crate) fn run(foreign: &Foreign, process: &Process, stdio: [OwnedFd; 3], channel: &Channel) {
    let keep = [stdio[0].as_fd(), stdio[1].as_fd(), stdio[2].as_fd(), channel.fd()];
    let outcome = close_all_but(&keep)
        .call("close_range")
        .and_then(|()| enter(foreign, process, stdio, channel));
    if let Err(e) = outcome {
        channel.report_failure(&e);
    }
}

fn enter(foreign: &Foreign, process: &Process, stdio: [OwnedFd; 3], channel: &Channel) -> Result<()> {
    // execs run side by side in one bundle
    let name = format!("exec-{}", getpid());
    let [description, pid_file, socket] = ["json", "pid", "sock"].map(|kind| format!("{name}.{kind}"));
    let files = [&description, &pid_file].map(|file| foreign.bundle.join(file));
    let text = serde_json::to_vec(process).map_err(|source| Error::Parse {
        path: files[0].clone(),
        source,
    })?;
    fs::write(&files[0], text).path("write", &files[0])?;
    let entered = exec(foreign, process, stdio, [&description, &pid_file, &socket]);
    let entered = entered.and_then(|console| Ok((read_pid(&files[1])?, console)));
    for file in &files {
        drop(fs::remove_file(file));
    }
    let (pid, console) = entered?;
    channel.report(&Report::Init { pid: pid.as_raw() })?;
    match console {
        Some(console) => channel.report_with(&Report::Console {}, &[console.as_fd()]),
        None => Ok(()),
    }
}

/// Has it run; the master of its terminal.
fn exec(
    foreign: &Foreign,
    process: &Process,
    stdio: [OwnedFd; 3],
    [description, pid_file, socket]: [&str; 3],
) -> Result<Option<OwnedFd>> {
    let console = match process.terminal() == Some(true) {
        true => Some(Console::listen(&foreign.bundle, socket)?),
        false => None,
    };
    // by whole paths, for not every runtime stays in the folder that it is started in
    let [description, pid_file] = [description, pid_file].map(|file| foreign.bundle.join(file));
    let mut args = vec![
        "exec".as_ref(),
        "--detach".as_ref(),
        "--process".as_ref(),
        description.as_os_str(),
        "--pid-file".as_ref(),
        pid_file.as_os_str(),
    ];
    if console.is_some() {
        args.extend(["--console-socket".as_ref(), Path::new(socket).as_os_str()]);
    }
    args.push(foreign.id.as_ref());
    let called = foreign.call(LONG, Streams::Given(stdio)).run(&args);
    called.map_err(|e| Error::Remote {
        kind: Kind::Exec,
        message: e.to_string(),
    })?;
    console.map(Console::receive).transpose()
}
