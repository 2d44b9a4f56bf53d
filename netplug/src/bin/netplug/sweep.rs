//! Deleting interfaces after the answer was given.
//!
//! The kernel lets who deletes an interface wait some 20 ms. A process of its own waits for that, so that the runtime
//! need not.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use netplug::Network;

use crate::error::{Code, Failure, Result};

/// The argument by which the program knows itself as that process.
pub(crate) const ARGUMENT: &str = "sweep";

/// Starts the process. It inherits the networks' sockets too: closing them waits as well.
pub(crate) fn start(networks: &[&Network]) -> Result<()> {
    let mut held = Vec::new();
    for network in networks {
        held.extend(network.hold()?);
    }
    let mut next = || held.pop().map_or_else(Stdio::null, Stdio::from);
    let spawned = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .env_clear()
        .stdin(next())
        .stdout(next())
        .stderr(next())
        .process_group(0)
        .spawn();
    spawned
        .map(drop)
        .map_err(|error| Failure::new(Code::Io, format!("start sweeping process: {error}")))
}

/// The process' work.
pub(crate) fn run() -> ExitCode {
    match Network::sweep_host() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
