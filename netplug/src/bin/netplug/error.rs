//! Errors in CNI's form: a code, a message.

use netplug::Error;
use serde_json::{Value, json};

/// Error codes of the CNI specification, and our own from 100 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Version = 1,
    Environment = 4,
    Io = 5,
    Decode = 6,
    Configuration = 7,
    NotReady = 50,
    Kernel = 100,
    Exhausted = 101,
    AddressTaken = 102,
    PortTaken = 103,
    Duplicate = 104,
    Missing = 105,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
}

/// The plugin's result.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: message.into(),
        }
    }

    /// A value of the configuration that can't be.
    pub(crate) fn conf(key: &str, value: impl std::fmt::Display, reason: &str) -> Self {
        Failure::new(Code::Configuration, format!("invalid {key} {value}: {reason}"))
    }

    pub(crate) fn to_json(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code as u32, "msg": self.message})
    }

    /// As the answer to STATUS: whatever is the matter, pods can't be attached now.
    pub(crate) fn not_ready(self) -> Self {
        Failure {
            code: Code::NotReady,
            ..self
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Invalid { .. } | Error::NoRange | Error::NotABridge { .. } => Code::Configuration,
            Error::Netns { .. } => Code::Environment,
            Error::Io { .. } | Error::Record { .. } => Code::Io,
            Error::Exhausted { .. } => Code::Exhausted,
            Error::AddressTaken { .. } => Code::AddressTaken,
            Error::PortTaken { .. } => Code::PortTaken,
            Error::AlreadyAttached { .. } => Code::Duplicate,
            Error::Missing { .. } | Error::NoInterface { .. } => Code::Missing,
            _ => Code::Kernel,
        };
        Failure::new(code, error.to_string())
    }
}
