//! What can be wrong with a configuration file.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a configuration can't be used; each names the key and the value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The text isn't TOML; the message shows the line.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// There is no such setting.
    #[error("{key} = {value}: there is no such setting{}", hint.as_ref().map(|h| format!(" (did you mean {h}?)")).unwrap_or_default())]
    Unknown {
        /// The dotted key.
        key: String,
        /// Its value, as TOML.
        value: String,
        /// A setting of a similar name.
        hint: Option<String>,
    },
    /// The value is of another type than the setting.
    #[error("{key} = {value}: expected {expected}")]
    Type {
        /// The dotted key.
        key: String,
        /// Its value, as TOML.
        value: String,
        /// The type wanted, with its article.
        expected: &'static str,
    },
    /// The value can't be used.
    #[error("{key} = {value:?}: {reason}")]
    Value {
        /// The dotted key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An error of a certain file.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The error.
        error: Box<ConfigError>,
    },
    /// The monitor program isn't there.
    #[error("monitor: pintle-monitor is neither beside pintled nor on PATH")]
    NoMonitor,
}

impl ConfigError {
    /// The same error, naming the file that it is in.
    pub(super) fn in_file(self, path: &Path) -> Self {
        Self::InFile {
            path: path.to_owned(),
            error: Box::new(self),
        }
    }

    /// A [`ConfigError::Value`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "text and numbers alike, without a `&` at each call"
    )]
    pub(super) fn value(key: &str, value: impl ToString, reason: impl Into<String>) -> Self {
        Self::Value {
            key: key.to_owned(),
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}
