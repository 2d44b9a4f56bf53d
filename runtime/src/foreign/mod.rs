//! Containers made by another OCI runtime: any program that has runc's command line.
//!
//! The seam is narrow. Where a container of our own is made by a stage that the monitor forks (`container/`), a stage here
//! runs `PROGRAM create`, and reports over the same channel; the monitor hardly knows the difference. It is the subreaper
//! of its pod, so that the init becomes its child when that program ends; standard streams are handed on; and signals,
//! limits and statistics go by pid and cgroup.
//!
//! ```text
//!   monitor                    stage                               PROGRAM
//!     │ ── fork ─────────────▶ mount namespace, overlay on rootfs
//!     │                        ├─ create ─────────────────────────▶ init, waits ── its parent ends: the monitor's child
//!     │                        ├─ fork: the starter
//!     │ ◀─ Begun, Init, Ready ─ exit          │
//!     │ ── a byte: start ─────────────────────▶ ── start ─────────▶ init executes its program
//!     │ ◀─ end of file, or Failed ───────────── exit
//! ```
//!
//! The overlay is mounted in the stage's own mount namespace; the host's mount table stays clean.

mod call;
mod create;
mod exec;
mod features;
mod mount;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

pub use features::{Features, features};

pub(crate) use create::run as create_stage;
pub(crate) use exec::run as exec_stage;

use crate::error::{Context, Error, Kind, Result};
use crate::protocol::ForeignRuntime;
use call::{Call, Streams};

/// For what makes or starts a container; callers give up later.
const LONG: Duration = Duration::from_secs(60);
/// For everything else.
const SHORT: Duration = Duration::from_secs(10);
/// How much of a pid file is read.
const MAX_PID: usize = 16;

/// A container that another runtime has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Who made it.
    pub runtime: ForeignRuntime,
    /// As that one knows it.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
}

impl Foreign {
    fn call<'a>(&'a self, limit: Duration, streams: Streams) -> Call<'a> {
        Call {
            runtime: &self.runtime,
            folder: Some(&self.bundle),
            limit,
            streams,
        }
    }

    /// Has the runtime send the container a signal, without waiting for it: the process returned does that, and is the
    /// caller's child.
    pub(crate) fn signal(&self, signal: i32) -> Result<Pid> {
        call::detached(|| {
            let signal = signal.to_string();
            let call = self.call(SHORT, Streams::Captured);
            call.run(&["kill".as_ref(), self.id.as_ref(), signal.as_ref()])
        })
    }
}

/// Has a runtime remove a container with all that it runs, in whatever state it is; one that it doesn't know is fine.
/// Blocking, for some seconds at the most. For callers with several threads.
///
/// # Errors
/// The runtime's own words, after which nothing of it is left but what only that runtime could have found: what it had
/// noted of the container is removed.
pub fn delete(runtime: &ForeignRuntime, id: &str) -> Result<()> {
    let notes = runtime.root.join(id);
    if !notes.exists() {
        return Ok(()); // it was never made, or is gone
    }
    let call = Call {
        runtime,
        folder: Some(&runtime.root),
        limit: SHORT,
        streams: Streams::Captured,
    };
    let deleted = call.run_threaded(&["delete".as_ref(), "--force".as_ref(), id.as_ref()]);
    match fs::remove_dir_all(&notes) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            deleted.and(Err(error).path("remove", &notes))
        }
        _ => deleted.map(drop),
    }
}

/// The runtime's failure, in its own words.
fn failed(runtime: &ForeignRuntime, verb: &str, kind: Kind, words: &str) -> Error {
    let name = runtime.program.file_name().unwrap_or(runtime.program.as_os_str());
    Error::Remote {
        kind,
        message: format!("{} {verb} failed: {words}", name.display()),
    }
}

fn read_pid(path: &Path) -> Result<Pid> {
    let text = fs::read_to_string(path).path("read", path)?;
    let pid = Some(text.trim()).filter(|text| text.len() <= MAX_PID);
    match pid
        .and_then(|text| text.parse().ok())
        .filter(|pid: &i32| *pid > 0)
    {
        Some(pid) => Ok(Pid::from_raw(pid)),
        None => Err(Error::invalid(
            path.display().to_string(),
            format!("{text:?} is no pid"),
        )),
    }
}
