//! Groups that systemd makes: where it is a host's first process it owns the tree, and whoever makes groups beside it
//! must expect them to be changed or removed.
//!
//! ```text
//!   kubelet's slice ── StartTransientUnit ──▶ scope, with the container's init inside ── SetUnitProperties: limits
//!                                             │ delegated: what lies below is the container's
//!                      StopUnit ─────────────▶ gone; systemd also ends it by itself once it is empty
//! ```
//!
//! Only making, limiting and removing a container go through systemd. All else (exec, statistics, freezing, killing)
//! takes the files, as with groups of our own: a call over the bus for each exec would keep systemd busy.

mod annotations;
mod bus;
mod properties;
mod unit;
mod wire;

use std::path::Path;

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::hierarchy::detect;
use crate::error::{Error, Result};
use bus::Bus;
pub(super) use unit::{Scope, slice_at};
use wire::{Value, Writer};

/// There if systemd is the host's first process (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// What the manager says of a name that is in use, and of one that is not.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// How a job ends that has done what it was to do.
const DONE: &str = "done";

/// Whether systemd is this host's first process, and so owns the cgroups.
pub fn is_booted() -> bool {
    Path::new(BOOTED).is_dir()
}

/// Makes a scope with a process inside.
pub(super) fn start(scope: &Scope, pid: Pid, resources: &LinuxResources) -> Result<()> {
    start_on(&mut Bus::system()?, scope, pid, resources)
}

fn start_on(bus: &mut Bus, scope: &Scope, pid: Pid, resources: &LinuxResources) -> Result<()> {
    let mut properties = vec![
        ("Description", Value::Text(format!("container in {}", scope.name))),
        ("Slice", Value::Text(scope.slice.clone())),
        ("PIDs", Value::Numbers(vec![pid.as_raw().unsigned_abs()])),
        // what lies below is not systemd's to change
        ("Delegate", Value::Bool(true)),
        ("CPUAccounting", Value::Bool(true)),
        ("MemoryAccounting", Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
        // a container ends when its pod does, not when the host's services do
        ("DefaultDependencies", Value::Bool(false)),
        // one that was killed for lack of memory would stay as failed
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
    ];
    properties.extend(properties::devices_of(resources, detect())?);
    // the last one of a name counts
    properties.extend(
        scope
            .extra
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    let mut body = Writer::default();
    body.text(&scope.name);
    body.text("replace");
    body.properties(&properties);
    body.no_units();
    let body = body.into_bytes();
    const SIGNATURE: &str = "ssa(sv)a(sa(sv))";
    let how = match bus.job("StartTransientUnit", SIGNATURE, &body) {
        // one of this name may have failed and still be known; one that runs stays, and makes this fail again
        Err(Error::Bus { name, .. }) if name == EXISTS => {
            forget_failed(bus, &scope.name)?;
            bus.job("StartTransientUnit", SIGNATURE, &body)?
        }
        other => other?,
    };
    match how.as_str() {
        DONE => Ok(()),
        _ => {
            // the first failure is what the caller is to learn of
            let _ = end(bus, &scope.name);
            Err(ended("StartTransientUnit", &how))
        }
    }
}

/// Tells systemd of limits, so that it doesn't lift them. They are to be written to the files afterwards, where they are
/// exact.
pub(super) fn limit(scope: &Scope, resources: &LinuxResources) -> Result<()> {
    limit_on(&mut Bus::system()?, scope, resources)
}

fn limit_on(bus: &mut Bus, scope: &Scope, resources: &LinuxResources) -> Result<()> {
    let version = bus.version()?;
    let properties = properties::of(resources, detect(), version)?;
    if properties.is_empty() {
        return Ok(());
    }
    let mut body = Writer::default();
    body.text(&scope.name);
    body.boolean(true); // until the next boot
    body.properties(&properties);
    bus.manager("SetUnitProperties", "sba(sv)", &body.into_bytes())
        .map(drop)
}

/// Makes a slice, of which no more is said than its name; those above it are made, too.
pub(super) fn start_slice(name: &str) -> Result<()> {
    let mut body = Writer::default();
    body.text(name);
    body.text("replace");
    let how = Bus::system()?.job("StartUnit", "ss", &body.into_bytes())?;
    match how.as_str() {
        DONE => Ok(()),
        _ => Err(ended("StartUnit", &how)),
    }
}

/// Has systemd forget a unit whose processes have ended; returns when it has. One that doesn't exist is fine.
pub(super) fn stop(name: &str) -> Result<()> {
    end(&mut Bus::system()?, name)
}

fn end(bus: &mut Bus, name: &str) -> Result<()> {
    let mut body = Writer::default();
    body.text(name);
    body.text("replace");
    match bus.job("StopUnit", "ss", &body.into_bytes()) {
        Err(Error::Bus { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
        other => other.map(drop),
    }
}

fn forget_failed(bus: &mut Bus, name: &str) -> Result<()> {
    let mut body = Writer::default();
    body.text(name);
    match bus.manager("ResetFailedUnit", "s", &body.into_bytes()) {
        Err(Error::Bus { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
        other => other.map(drop),
    }
}

fn ended(call: &'static str, how: &str) -> Error {
    Error::Bus {
        call,
        name: String::new(),
        reason: format!("the job ended as {how:?}"),
    }
}

#[cfg(test)]
mod tests;
