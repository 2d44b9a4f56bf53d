//! The messages: what the daemon asks for, what the monitor answers and tells.

use serde::{Deserialize, Serialize};

pub use crate::error::Kind as ErrorKind;

use super::types::{CreateContainer, ExecRequest, Exit, MonitorState, RestoreContainer, SandboxSetup};

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillScope {
    /// The container's init.
    #[default]
    Init,
    /// Every process of the container's cgroup.
    All,
}

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// First on each connection.
    Hello {
        /// The daemon's protocol version.
        version: u32,
    },
    /// Make the pod's namespaces; once only.
    SetupSandbox(SandboxSetup),
    /// Make a container up to the point where its process waits.
    Create(CreateContainer),
    /// Make a container of the processes of a checkpoint, which wait.
    Restore(Box<RestoreContainer>),
    /// Let the process go; answered when execve has succeeded or failed.
    Start {
        /// The container.
        id: String,
    },
    /// Send a signal.
    Kill {
        /// The container.
        id: String,
        /// Its number.
        signal: i32,
        /// Whom it is for.
        #[serde(default)]
        scope: KillScope,
    },
    /// Forget a container that has exited or never ran, and remove its cgroup.
    Delete {
        /// The container.
        id: String,
    },
    /// Run a further process; three file descriptors come along.
    Exec(Box<ExecRequest>),
    /// SIGKILL an exec and its descendants.
    KillExec {
        /// The exec.
        exec_id: String,
    },
    /// Let an exec live on when the connection that asked for it is gone.
    DetachExec {
        /// The exec.
        exec_id: String,
    },
    /// Connect standard streams to those of a container; a file descriptor comes for each that is true, in this order.
    Attach {
        /// The container.
        id: String,
        /// The reading end of what goes to the container.
        #[serde(default)]
        stdin: bool,
        /// The writing end for its output, or for all of its terminal's.
        #[serde(default)]
        stdout: bool,
        /// The writing end for its standard error.
        #[serde(default)]
        stderr: bool,
    },
    /// Set the size of a container's terminal, in characters.
    Resize {
        /// The container.
        id: String,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Open the log file anew, because it has been renamed.
    ReopenLog {
        /// The container.
        id: String,
    },
    /// Tell everything about the containers.
    State {},
    /// Kill everything, remove the cgroups, and end.
    Shutdown {},
}

/// A request with its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Chosen by the daemon; the reply bears it.
    pub seq: u64,
    /// How many file descriptors come with the frame.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fds: u32,
    /// What is asked for.
    pub request: Request,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What of a request can be read even if its kind is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RequestHead {
    /// As in [`RequestFrame`].
    pub seq: u64,
    /// As in [`RequestFrame`].
    #[serde(default)]
    pub fds: u32,
}

/// Reads a request. One that this version doesn't know or that lacks a field is `Ok(Err(…))`, for it can be answered.
///
/// # Errors
/// Neither a request nor anything that could be answered: the connection is of no more use.
pub fn parse_request(
    body: &[u8],
) -> Result<Result<RequestFrame, (RequestHead, RemoteError)>, serde_json::Error> {
    match serde_json::from_slice::<RequestFrame>(body) {
        Ok(frame) => Ok(Ok(frame)),
        Err(why) => {
            let head: RequestHead = serde_json::from_slice(body)?;
            Ok(Err((
                head,
                RemoteError::new(ErrorKind::Unsupported, format!("request not understood: {why}")),
            )))
        }
    }
}

/// A failure in the monitor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct RemoteError {
    /// Its kind.
    pub kind: ErrorKind,
    /// For people; with the verb and the path.
    pub message: String,
}

impl RemoteError {
    /// A failure of that kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl From<&crate::Error> for RemoteError {
    fn from(error: &crate::Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<RemoteError> for crate::Error {
    fn from(error: RemoteError) -> Self {
        Self::Remote {
            kind: error.kind,
            message: error.message,
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// The monitor's protocol version.
        version: u32,
        /// The monitor's pid.
        pid: i32,
    },
    /// To `SetupSandbox`.
    Sandbox {
        /// The sandbox's init, with a shared pid namespace.
        #[serde(default)]
        init_pid: Option<i32>,
    },
    /// To `Create` and `Restore`.
    Created {
        /// The init that waits.
        pid: i32,
    },
    /// To `Start`.
    Started {
        /// Unix time in nanoseconds.
        started_at: i64,
    },
    /// To `Exec`.
    Exec {
        /// The new process.
        pid: i32,
    },
    /// To `State`.
    State(MonitorState),
    /// To everything else.
    Done {},
}

/// What the monitor tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A container's process has ended and its log is complete.
    ContainerExited {
        /// The container.
        id: String,
        /// How.
        exit: Exit,
    },
    /// An exec has ended.
    ExecExited {
        /// The exec.
        exec_id: String,
        /// How.
        exit: Exit,
    },
    /// The sandbox's init has ended, and with it every process of the shared pid namespace.
    SandboxInitExited {
        /// How.
        exit: Exit,
    },
}

/// What the monitor sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToDaemon {
    /// To the connection that asked.
    Reply {
        /// The request's number.
        seq: u64,
        /// What came of it.
        result: Result<Reply, RemoteError>,
    },
    /// To every connection.
    Event(Event),
}
