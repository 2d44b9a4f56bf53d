//! The crate's one error type. Each error of the kernel carries the verb and the path or object it was about.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure an [`Error`] is, for callers that decide by it (a gRPC status, an exit code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What was asked for contradicts itself, the specification or this host.
    InvalidArgument,
    /// The thing named does not exist.
    NotFound,
    /// The thing named is not in a state that allows the operation.
    InvalidState,
    /// The container's program could not be executed.
    Exec,
    /// The kernel refused.
    Kernel,
    /// The name is taken.
    AlreadyExists,
    /// This version doesn't know the request, or can't do it.
    Unsupported,
    /// A fault of ours, or a kind that this version doesn't know.
    #[serde(other)]
    Internal,
}

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a path failed.
    #[error("{verb} {}: {}", path.display(), Reason(*errno))]
    Io {
        /// What was tried, as an infinitive ("open", "mount overlay on").
        verb: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A system call that concerns no path failed.
    #[error("{call}: {}", Reason(*errno))]
    Sys {
        /// The call, with what it was about.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Writing a value to a control file failed.
    #[error("write {value:?} to {}: {}", path.display(), Reason(*errno))]
    Write {
        /// The file.
        path: PathBuf,
        /// The value that the kernel refused.
        value: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A field of a configuration or request is missing, malformed or contradicts another.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's path, such as `linux.namespaces[2].path`.
        field: String,
        /// What is wrong with it, with the value.
        reason: String,
    },
    /// config.json isn't a runtime specification.
    #[error("parse {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A mount of the specification could not be made.
    #[error("mount {destination:?}: {source}")]
    Mount {
        /// `mounts[].destination`.
        destination: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// The program of a container or an exec can't be run.
    #[error("{0}")]
    Exec(ExecError),
    /// A seccomp profile could not be compiled.
    #[error("seccomp: {0}")]
    Seccomp(String),
    /// A hook failed. The text is what runc prints.
    #[error("error running {kind} hook #{index}: {reason}")]
    Hook {
        /// `createRuntime`, `prestart`, …
        kind: &'static str,
        /// Position in its list, from 0.
        index: usize,
        /// Exit status, signal, time-out or why it could not be started.
        reason: String,
    },
    /// The cgroup still holds processes or sub groups after all attempts.
    #[error("remove cgroup {}: still busy", path.display())]
    CgroupBusy {
        /// The group's folder.
        path: PathBuf,
    },
    /// Limits of a group could be changed in part only, and not be put back.
    #[error("{cause}; not as before: {}", Paths(left))]
    HalfDone {
        /// Why the change failed.
        cause: Box<Error>,
        /// The control files that now say something else.
        left: Vec<PathBuf>,
    },
    /// A change of limits could not be taken back.
    #[error("not as before: {}", Paths(.0))]
    NotUndone(Vec<PathBuf>),
    /// systemd refused a call, or the job that it began has failed.
    #[error("systemd: {call}: {reason}")]
    Bus {
        /// The method of its manager (org.freedesktop.systemd1(5)).
        call: &'static str,
        /// The name of the D-Bus error; empty for a job's failure.
        name: String,
        /// What systemd says.
        reason: String,
    },
    /// A process that was to set something up ended without saying why.
    #[error("{what} ended unexpectedly ({status})")]
    Ended {
        /// Which process.
        what: &'static str,
        /// How it ended.
        status: String,
    },
    /// The pod's monitor has ended, or its connection broke.
    #[error("the pod's monitor is gone")]
    MonitorGone,
    /// Bytes to or from a monitor that are no message.
    #[error("monitor protocol: {0}")]
    Frame(#[from] crate::protocol::FrameError),
    /// A monitor's reply that doesn't fit its request.
    #[error("monitor protocol: unexpected reply to {request}")]
    Reply {
        /// The request.
        request: &'static str,
    },
    /// The request can't be met as things are. The texts are those that callers of other runtimes look for.
    #[error("{message}")]
    Refused {
        /// Its kind.
        kind: Kind,
        /// Its text.
        message: String,
    },
    /// An error that a forked child or a pod's monitor reported.
    #[error("{message}")]
    Remote {
        /// Its kind.
        kind: Kind,
        /// Its text.
        message: String,
    },
}

/// Why a program can't be run; the texts are the ones that users of other runtimes look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// A name without a slash that no folder of PATH holds.
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    /// `execve` or the look-up failed.
    #[error("exec {path}: {}", Reason(*errno))]
    Failed {
        /// `process.args[0]`.
        path: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The working folder can't be entered.
    #[error("chdir to cwd ({cwd:?}) set in config.json failed: {}", Reason(*errno))]
    Cwd {
        /// `process.cwd`.
        cwd: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// An errno in the words of strerror, but in lower case as the field's tools print it.
pub(crate) struct Reason(pub(crate) Errno);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.desc();
        let mut chars = text.chars();
        match chars.next() {
            // "RPC version wrong" and "I/O error" keep their capitals
            Some(first) if !chars.as_str().starts_with(|c: char| c.is_uppercase() || c == '/') => {
                write!(f, "{}{}", first.to_lowercase(), chars.as_str())
            }
            _ => f.write_str(text),
        }
    }
}

/// Paths in a message.
struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, path.display())?;
        }
        Ok(())
    }
}

impl Error {
    /// An I/O error with its verb and path.
    pub fn io(verb: &'static str, path: impl AsRef<Path>, errno: impl Into<ErrnoOf>) -> Self {
        Self::Io {
            verb,
            path: path.as_ref().to_owned(),
            errno: errno.into().0,
        }
    }

    /// An error of a system call without a path.
    pub fn sys(call: &'static str, errno: Errno) -> Self {
        Self::Sys { call, errno }
    }

    /// A field that is wrong.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } | Self::Parse { .. } | Self::Seccomp(_) => Kind::InvalidArgument,
            // The values that are written are the caller's, and the kernel can't do with this one.
            Self::Write {
                errno: Errno::EINVAL | Errno::ERANGE,
                ..
            } => Kind::InvalidArgument,
            Self::Bus { name, .. } if name == "org.freedesktop.DBus.Error.InvalidArgs" => {
                Kind::InvalidArgument
            }
            Self::Exec(_) => Kind::Exec,
            Self::MonitorGone | Self::Frame(_) | Self::Reply { .. } => Kind::Internal,
            Self::Mount { source, .. } => source.kind(),
            Self::Remote { kind, .. } | Self::Refused { kind, .. } => *kind,
            Self::Io { .. }
            | Self::Sys { .. }
            | Self::Write { .. }
            | Self::Hook { .. }
            | Self::CgroupBusy { .. }
            | Self::Bus { .. }
            | Self::HalfDone { .. }
            | Self::NotUndone(_)
            | Self::Ended { .. } => Kind::Kernel,
        }
    }

    /// The kernel's answer, where it is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { errno, .. } | Self::Sys { errno, .. } | Self::Write { errno, .. } => Some(*errno),
            Self::Mount { source, .. } => source.errno(),
            Self::HalfDone { cause, .. } => cause.errno(),
            _ => None,
        }
    }
}

/// Lets [`Error::io`] take an [`Errno`] as well as a [`std::io::Error`].
pub struct ErrnoOf(Errno);

impl From<Errno> for ErrnoOf {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl From<std::io::Error> for ErrnoOf {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

impl From<&std::io::Error> for ErrnoOf {
    fn from(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

/// Puts verb and path to a bare errno.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::Io`].
    fn path(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T>;
    /// Turns the error into [`Error::Sys`].
    fn call(self, call: &'static str) -> Result<T>;
}

impl<T, E: Into<ErrnoOf>> Context<T> for std::result::Result<T, E> {
    fn path(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::io(verb, path, e))
    }

    fn call(self, call: &'static str) -> Result<T> {
        self.map_err(|e| Error::sys(call, e.into().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_lower_case_but_keep_abbreviations() {
        assert_eq!(Reason(Errno::ENOENT).to_string(), "no such file or directory");
        assert_eq!(Reason(Errno::EIO).to_string(), "I/O error");
        let e = Error::io("open", "/x", Errno::EACCES);
        assert_eq!(e.to_string(), "open /x: permission denied");
        assert_eq!(e.kind(), Kind::Kernel);
    }
}
