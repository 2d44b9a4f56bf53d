//! The one error type of the daemon. `status.rs` maps it to gRPC codes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The daemon's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an id or a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pod sandbox.
    Pod,
    /// A container.
    Container,
    /// An image.
    Image,
    /// A runtime handler.
    Handler,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod sandbox",
            Self::Container => "container",
            Self::Image => "image",
            Self::Handler => "runtime handler",
        })
    }
}

/// Why an RPC, or the daemon itself, failed. Messages hold no changing data, so that equal events stay equal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request's field can't be what it is.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field as the CRI names it.
        field: String,
        /// What is wrong with it, with the value.
        reason: String,
    },
    /// The configuration file can't be used.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The CRI config can't be translated to a runtime spec.
    #[error(transparent)]
    Spec(#[from] crate::spec::SpecError),
    /// A fact about this machine, or about a path of a config, can't be found out.
    #[error(transparent)]
    Gather(#[from] crate::spec::gather::GatherError),
    /// No object of that id.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// The id as it was given.
        id: String,
    },
    /// A prefix that begins several ids.
    #[error("{kind} id {prefix:?} is ambiguous")]
    Ambiguous {
        /// What was looked for.
        kind: Kind,
        /// The prefix as it was given.
        prefix: String,
    },
    /// The object's state doesn't allow the call.
    #[error("{kind} {id} is {state}; it must be {needed}")]
    WrongState {
        /// What was addressed.
        kind: Kind,
        /// Its id.
        id: String,
        /// Its state.
        state: &'static str,
        /// The states that would do.
        needed: &'static str,
    },
    /// The name belongs to another object.
    #[error("the name {name:?} is taken by {kind} {holder}")]
    NameTaken {
        /// What holds it.
        kind: Kind,
        /// The name.
        name: String,
        /// The holder's id.
        holder: String,
    },
    /// The image of a container isn't on this node.
    #[error("image {0:?} is not on this node: pull it first")]
    ImageNotLocal(String),
    /// A command ran longer than its caller allowed.
    #[error("the command did not end within {seconds} s and was killed")]
    ExecTimeout {
        /// The caller's limit.
        seconds: i64,
    },
    /// A checkpoint took longer than its caller allowed.
    #[error("the checkpoint was not done within {seconds} s and is given up")]
    CheckpointTimeout {
        /// The caller's limit.
        seconds: u64,
    },
    /// A checkpoint that is damaged, hostile, or doesn't fit the request.
    #[error("checkpoint: {0}")]
    BadCheckpoint(String),
    /// A container did not go away.
    #[error("container {0} did not exit after SIGKILL")]
    Unkillable(String),
    /// Several things could not be undone; each is named.
    #[error("clean-up is incomplete: {}", .0.join("; "))]
    Teardown(Vec<String>),
    /// Another daemon serves this socket or owns this state.
    #[error("{}: another pintled is running", .0.display())]
    Busy(PathBuf),
    /// Events that a client asks for are no longer kept.
    #[error("these events are no longer kept: list anew, and subscribe without a token")]
    EventsForgotten {
        /// The place from which on all events are kept.
        oldest: i64,
    },
    /// A client doesn't read its events as fast as they come.
    #[error("events were lost, because they were not read in time: list anew")]
    SlowListener,
    /// A task of the daemon ended by a panic; its log has the reason.
    #[error("internal error while {0}")]
    Panicked(&'static str),
    /// The runtime, or its monitor.
    #[error(transparent)]
    Runtime(#[from] pintle_runtime::Error),
    /// The image store.
    #[error(transparent)]
    Images(#[from] pintle_images::Error),
    /// The built-in network.
    #[error(transparent)]
    Network(#[from] netplug::Error),
    /// The CNI programs.
    #[error(transparent)]
    Cni(#[from] crate::cni::CniError),
    /// Plugins of the node's resources.
    #[error(transparent)]
    Nri(#[from] crate::nri::NriError),
    /// The streaming server.
    #[error(transparent)]
    Streaming(#[from] crate::streaming::StreamError),
    /// The error of a creation that this call took over.
    #[error("{0}")]
    Shared(std::sync::Arc<Error>),
    /// A system call, with its verb and path.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The gRPC server itself.
    #[error("serve the CRI: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Gives an I/O error its verb and its path.
pub trait IoContext<T> {
    /// Turns the error into an [`Error::Io`].
    ///
    /// # Errors
    /// The error, with its context.
    fn io(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn io(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io {
            verb,
            path: path.as_ref().to_owned(),
            source,
        })
    }
}
