//! The protocol between the daemon and a pod's monitor: one enum a direction, framed as length + JSON.
//!
//! ```text
//!   daemon                                    monitor (one per pod)
//!     │ ── Hello{version} ───────────────────▶ │   first on each connection; any number of connections
//!     │ ◀── Reply Hello{version, pid} ──────── │
//!     │ ── SetupSandbox ─────────────────────▶ │   namespaces pinned at <dir>/ns/*
//!     │ ◀── Reply Sandbox{init_pid} ────────── │
//!     │ ── Create{id, bundle, …} ────────────▶ │   cgroup, rootfs; the init waits
//!     │ ◀── Reply Created{pid} ─────────────── │
//!     │ ── Start{id} ────────────────────────▶ │
//!     │ ◀── Reply Started{started_at} ──────── │   execve succeeded
//!     │ ── Exec{…} + 3 fds (SCM_RIGHTS) ─────▶ │
//!     │ ◀── Reply Exec{pid} ────────────────── │
//!     │ ── Attach{id, …} + its fds ──────────▶ │   from now on copied, beside the log
//!     │ ◀── Reply Done ─────────────────────── │
//!     │ ◀── Event ExecExited ───────────────── │   events go to every connection,
//!     │ ◀── Event ContainerExited ──────────── │   always after the reply that they follow from
//!     │ ── Delete{id} ───────────────────────▶ │
//!     │ ── Shutdown ─────────────────────────▶ │
//!     │ ◀── Reply Done ─────────────────────── │   then the socket is closed
//! ```
//!
//! A frame is a little-endian `u32` length and that many bytes of JSON. File descriptors travel with the
//! frame's first byte, and the frame says in `fds` how many are its own. Requests of one connection are begun
//! in their order; `Create`, `Start`, `Exec`, and `Delete` of what is being made, are answered when they are
//! done, and others in between. What is being made for a connection that is gone is undone, and its execs are
//! killed but for those that were detached. Old daemons and new monitors (and the reverse) understand one another: unknown
//! fields are ignored, new fields have defaults, an unknown request is answered with
//! [`ErrorKind::Unsupported`], an unknown event is passed over.

mod frame;
mod message;
mod types;

#[cfg(test)]
mod tests;

pub use frame::{Decoder, FrameError, HEADER, MAX_FRAME, encode};
pub use message::{
    ErrorKind, Event, KillScope, RemoteError, Reply, Request, RequestFrame, RequestHead, ToDaemon,
    parse_request,
};
pub use types::{
    ContainerState, ContainerStatus, CreateContainer, ExecRequest, Exit, ForeignRuntime, IdMapping,
    LogTarget, MonitorState, NamespaceKind, Overlay, RestoreContainer, SandboxSetup,
};

/// The version that this build speaks. It rises only when a change can't be expressed by a new field or a new
/// request; both sides accept any version and judge by what the other one answers.
pub const PROTOCOL_VERSION: u32 = 1;

/// The most file descriptors that may come with one frame.
pub const MAX_FDS: usize = 8;

/// The monitor's listening socket within the pod's folder.
pub const SOCKET_NAME: &str = "monitor.sock";

/// The file within the pod's folder that holds the monitor's pid, and that it keeps locked (flock) while it lives.
pub const PID_FILE: &str = "monitor.pid";

/// The file within a container's bundle that holds its [`Exit`] once it has exited.
pub const EXIT_FILE: &str = "exit.json";
