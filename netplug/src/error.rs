//! The crate's one error type.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What can go wrong in this crate. Every variant names the object it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{verb} {path}: {source}")]
    Io {
        /// What was tried, such as `open`.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("{what}: {source}{detail}")]
    Netlink {
        /// What was asked of the kernel, such as `add address 10.0.0.1/24 to pintle0`.
        what: String,
        /// The kernel's errno.
        source: io::Error,
        /// The kernel's own words (extended acknowledgement), empty or beginning with ` (`.
        detail: String,
    },
    /// The kernel sent something that isn't a netlink message of the kind asked for.
    #[error("{what}: malformed answer of the kernel: {reason}")]
    Decode {
        /// What was asked of the kernel.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A value of a configuration or a request is unusable.
    #[error("invalid {field} {value:?}: {reason}")]
    Invalid {
        /// The field, as the caller knows it.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No address range is known (yet): neither configured nor told by the node's pod CIDR.
    #[error("no pod address range is known yet (neither configured nor assigned to the node)")]
    NoRange,
    /// All addresses of a pool are in use.
    #[error("no free address left in {ranges}")]
    Exhausted {
        /// The ranges of the pool.
        ranges: String,
    },
    /// A requested address is in use.
    #[error("address {address} is already allocated to {owner}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// `id:ifname` of its holder.
        owner: String,
    },
    /// A host port is in use by another pod.
    #[error("host port {port} is already mapped to another pod")]
    PortTaken {
        /// `address:port/protocol`, the address left out for a port on all addresses.
        port: String,
    },
    /// The same interface of the same pod was attached before and not detached.
    #[error("{id} already has an interface {ifname} in this network")]
    AlreadyAttached {
        /// The pod.
        id: String,
        /// The interface.
        ifname: String,
    },
    /// The bridge's name belongs to an interface of another kind.
    #[error("interface {name} exists but is a {kind}, not a bridge")]
    NotABridge {
        /// The interface.
        name: String,
        /// Its kind as the kernel names it.
        kind: String,
    },
    /// An interface that has to exist does not.
    #[error("interface {name} not found")]
    NoInterface {
        /// The interface.
        name: String,
    },
    /// A check found that something of a pod's network is gone.
    #[error("{what} of {id} is missing")]
    Missing {
        /// The pod.
        id: String,
        /// What is missing.
        what: String,
    },
    /// A path names no network namespace.
    #[error("network namespace {path}: {reason}")]
    Netns {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record on disk can't be read.
    #[error("record {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The parser's complaint.
        source: serde_json::Error,
    },
    /// A tear-down went to its end, but parts of it failed.
    #[error("{}", join(.0))]
    Several(Vec<Error>),
}

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(field: &'static str, value: impl Display, reason: impl Into<String>) -> Self {
        Error::Invalid {
            field,
            value: value.to_string(),
            reason: reason.into(),
        }
    }

    /// The errno behind a refused netlink request or file operation.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Error::Netlink { source, .. } | Error::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// One error out of those a tear-down collected; `Ok` if there were none.
    pub(crate) fn collect(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }
}

fn join(errors: &[Error]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Adds verb and path to an I/O error.
pub(crate) trait IoContext<T> {
    fn io(self, verb: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn io(self, verb: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io {
            verb,
            path: path.to_owned(),
            source,
        })
    }
}

impl<T> IoContext<T> for nix::Result<T> {
    fn io(self, verb: &'static str, path: &Path) -> Result<T> {
        self.map_err(|errno| Error::Io {
            verb,
            path: path.to_owned(),
            source: errno.into(),
        })
    }
}
