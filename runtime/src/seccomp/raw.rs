//! `linux.seccomp` of a configuration, compiled on the spot, and its listener.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall, Spec};
use serde::Serialize;

use super::Filter;
use super::compile::{in_memory, notifies};
use crate::error::{Context, Error, Result};

/// What a listener is told of the container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// The container's id.
    pub(crate) id: &'a str,
    /// Its bundle.
    pub(crate) bundle: &'a Path,
    /// The process that the filter is for, in the runtime's pid namespace.
    pub(crate) pid: i32,
    /// `creating` or `running`.
    pub(crate) status: &'static str,
    /// The container's init.
    pub(crate) init: i32,
}

/// The container process state of the specification (config-linux.md).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: State<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'static str,
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a HashMap<String, String>>,
}

/// These the runtime itself needs after it has loaded the filter and before somebody listens.
const OWN_CALLS: [&str; 2] = ["write", "sendmsg"];

/// A filter on its way: if it has a listener, that is connected to, and still to be told of the process.
#[derive(Debug)]
pub(crate) struct Waiting {
    filter: Filter,
    listener: Option<UnixStream>,
}

/// The filter of a configuration, if it has one, for a process that knows itself.
pub(crate) fn of_spec(spec: &Spec, told: &Told<'_>) -> Result<Option<Filter>> {
    let waiting = connect(spec)?;
    waiting.map(|waiting| waiting.tell(spec, told)).transpose()
}

/// The filter of a configuration, if it has one. It connects to the listener's socket, which lies in the runtime's mount
/// namespace.
pub(crate) fn connect(spec: &Spec) -> Result<Option<Waiting>> {
    let Some(profile) = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()) else {
        return Ok(None);
    };
    let filter = in_memory(profile)?;
    if !notifies(profile) {
        return Ok(Some(Waiting {
            filter,
            listener: None,
        }));
    }
    check_listener(profile)?;
    let path = profile
        .listener_path()
        .as_deref()
        .filter(|p| !p.as_os_str().is_empty())
        .ok_or_else(|| Error::invalid("linux.seccomp.listenerPath", "SCMP_ACT_NOTIFY needs it"))?;
    let socket = UnixStream::connect(path).path("connect to seccomp listener", path)?;
    Ok(Some(Waiting {
        filter,
        listener: Some(socket),
    }))
}

impl Waiting {
    /// Whether the listener is to be told of the process.
    pub(crate) fn has_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// The filter, which when it is loaded tells the listener of a process.
    pub(crate) fn tell(self, spec: &Spec, told: &Told<'_>) -> Result<Filter> {
        let Some(socket) = self.listener else {
            return Ok(self.filter);
        };
        let profile = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        let state = ProcessState {
            oci_version: spec.version(),
            fds: ["seccompFd"],
            pid: told.pid,
            metadata: profile.and_then(|profile| profile.listener_metadata().as_deref()),
            state: State {
                oci_version: spec.version(),
                id: told.id,
                status: told.status,
                pid: told.init,
                bundle: told.bundle,
                annotations: spec.annotations().as_ref(),
            },
        };
        let message = serde_json::to_vec(&state).map_err(|_| Error::sys("encode state", Errno::EINVAL))?;
        Ok(self.filter.with_listener(socket.into(), message))
    }
}

fn check_listener(profile: &LinuxSeccomp) -> Result<()> {
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::Seccomp(
            "SCMP_ACT_NOTIFY cannot be used as default action".to_owned(),
        ));
    }
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let notified = rules
        .iter()
        .filter(|r| r.action() == LinuxSeccompAction::ScmpActNotify);
    match notified
        .flat_map(LinuxSyscall::names)
        .find(|name| OWN_CALLS.contains(&name.as_str()))
    {
        Some(name) => Err(Error::Seccomp(format!(
            "SCMP_ACT_NOTIFY cannot be used for the {name} syscall"
        ))),
        None => Ok(()),
    }
}
