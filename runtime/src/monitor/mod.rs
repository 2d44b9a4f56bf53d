//! The monitor of a pod: one thread, one epoll loop, no async runtime, a few hundred KiB.
//!
//! It owns what must outlive the daemon: the standard streams of the pod's containers and their logs, the exit
//! statuses, and (as the subreaper) every process of the pod that loses its parent. The daemon may come and go, and
//! several may be connected; none of them can make it wait.
//!
//! ```text
//!   connections ─▶ requests ─▶ Backend (namespaces, cgroups, processes)
//!        ▲                        │ pipes, pids
//!        └── replies, events ── event loop ◀── SIGCHLD, outputs, attachments, deadlines
//!                                 │
//!                               logs, attachments, exit.json
//! ```
//!
//! Because it has one thread it may fork, and run ordinary Rust in the child.

mod attach;
mod attachment;
mod backend;
mod connection;
mod container;
mod event_loop;
pub(crate) mod exec;
mod execs;
mod exits;
mod hold;
mod host;
mod input;
mod lives;
mod note;
mod outbox;
mod poller;
mod requests;
mod setup;
mod state;
mod stdio;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::error::Result;

/// Where a monitor lives.
#[derive(Debug, Clone)]
pub struct Options {
    /// The pod's folder: the socket, the pid file and the pinned namespaces.
    pub dir: PathBuf,
    /// The pod's id.
    pub id: String,
}

/// Runs a monitor until it is told to shut down.
///
/// Standard input, if it is a socket, is the first connection. The process is changed for good: a session of its
/// own, signals ignored, all other descriptors closed. Call this first thing in `main`, with one thread.
///
/// # Errors
/// The monitor can't be set up: the folder is missing, or another monitor holds it. Once it runs it only returns an
/// error if the kernel refuses to wait for events.
pub fn run(options: &Options) -> Result<()> {
    let setup::Process {
        listener,
        first,
        dir,
        blank,
        lock,
    } = setup::become_monitor(options)?;
    let backend = host::Host::new(blank)?;
    let mut monitor = event_loop::Monitor::new(backend, dir.clone(), listener)?;
    if let Some(stream) = first {
        monitor.connect(stream);
    }
    let outcome = monitor.run();
    setup::leave(&dir);
    drop(lock);
    outcome
}
