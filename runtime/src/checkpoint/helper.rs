//! A process that stops containers of one pod, has them dumped, and lets them go on: `pintle-monitor checkpoint`.
//!
//! ```text
//!   caller                                   helper
//!     ── {containers: […], criu, …} ──────▶  freezes all, then dumps one after the other
//!     ◀── "ok" or why not ────────────────   all still stand
//!     (copies the files that belong to it)
//!     ── end of input ────────────────────▶  thaws all, and ends; before the answer: gives up first
//! ```
//!
//! It is a process of its own because criu may not be killed, and because the containers must go on whatever becomes of
//! the caller: when that dies, the input ends.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::{Connections, Dump, Frozen, dump};
use crate::cgroup::Handle;
use crate::error::{Context, Error, Result};
use crate::protocol::RemoteError;

/// What makes the monitor's program this helper.
pub const HELPER_ARGUMENT: &str = "checkpoint";

/// A request has some hundred bytes a container.
const MAX_REQUEST: u64 = 1 << 20;

/// What is to be dumped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Containers that are frozen together.
    pub containers: Vec<Target>,
    /// The program criu.
    pub criu: PathBuf,
    /// How long processes may take to stand still, in seconds.
    pub timeout: u32,
    /// What becomes of connections.
    pub connections: Connections,
}

/// A container to be dumped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// Its init.
    pub pid: i32,
    /// The folder of its config.json.
    pub bundle: PathBuf,
    /// Its cgroup, relative to the hierarchies' roots.
    pub cgroup: String,
    /// An empty folder for criu's images.
    pub images: PathBuf,
    /// A folder for `dump.log` and `stats-dump`.
    pub work: PathBuf,
}

/// What the helper answers.
pub(crate) type Answer = std::result::Result<(), RemoteError>;

/// Runs the helper: a request on standard input up to the end of its line, the answer on standard output.
#[must_use]
pub fn run() -> ExitCode {
    // a caller that is gone must not end this process before it has thawed what it froze
    let stdin = io::stdin();
    let mut input = stdin.lock();
    let (outcome, frozen) = match read(&mut input).and_then(|request| work(&request, stdin.as_fd())) {
        Ok(frozen) => (Ok(()), Some(frozen)),
        Err(error) => (Err(RemoteError::from(&error)), None),
    };
    let answer: Answer = outcome;
    let told = serde_json::to_vec(&answer)
        .map_err(io::Error::from)
        .and_then(|mut line| {
            line.push(b'\n');
            let mut out = io::stdout().lock();
            out.write_all(&line).and_then(|()| out.flush())
        });
    if told.is_ok() && answer.is_ok() {
        // the caller's word, or its end
        let _ = input.read(&mut [0]);
    }
    drop(frozen);
    ExitCode::SUCCESS
}

fn read(input: &mut impl io::BufRead) -> Result<Checkpoint> {
    let mut line = Vec::new();
    io::BufRead::read_until(&mut io::Read::take(input, MAX_REQUEST), b'\n', &mut line)
        .call("read request")?;
    serde_json::from_slice(&line).map_err(|source| Error::Parse {
        path: "request".into(),
        source,
    })
}

fn work(request: &Checkpoint, caller: BorrowedFd<'_>) -> Result<Frozen> {
    let groups: Vec<Handle> = request
        .containers
        .iter()
        .map(|target| Handle::new(&target.cgroup))
        .collect::<Result<_>>()?;
    let frozen = Frozen::freeze(&groups, Duration::from_secs(request.timeout.into()))?;
    for (target, group) in request.containers.iter().zip(&groups) {
        let path = target.bundle.join("config.json");
        let text = fs::read(&path).path("read", &path)?;
        let spec: Spec = serde_json::from_slice(&text).map_err(|source| Error::Parse { path, source })?;
        dump(&Dump {
            pid: target.pid,
            spec: &spec,
            cgroup: group,
            images: &target.images,
            work: &target.work,
            criu: &request.criu,
            leave_running: true,
            timeout: Some(request.timeout),
            connections: request.connections,
            caller: Some(caller),
        })?;
    }
    Ok(frozen)
}
