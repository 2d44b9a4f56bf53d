//! What can go wrong with CNI.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the CNI client or of a plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CniError {
    /// The configuration folder holds no usable network.
    #[error("no valid CNI network configuration in {}{}", dir.display(), reasons(.skipped))]
    NotConfigured {
        /// The folder.
        dir: PathBuf,
        /// Files that were skipped, and why.
        skipped: Vec<String>,
    },
    /// A file operation failed.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `open`.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A value of a request can't be handed to plugins.
    #[error("invalid {field} {value:?}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No folder holds the plugin.
    #[error("CNI plugin {plugin} not found in {dirs}")]
    PluginNotFound {
        /// The plugin's type.
        plugin: String,
        /// The folders, separated by colons.
        dirs: String,
    },
    /// The plugin answered with an error.
    #[error("CNI plugin {plugin} {command}: {msg}{} (code {code})", separated(.details))]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// The command, such as `ADD`.
        command: &'static str,
        /// Its error code; below 100 as the CNI specification says.
        code: u32,
        /// Its message.
        msg: String,
        /// Its details.
        details: String,
    },
    /// The plugin failed without a proper error.
    #[error("CNI plugin {plugin} {command}: {status}: {output}")]
    Failed {
        /// The plugin's type.
        plugin: String,
        /// The command.
        command: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The plugin didn't end in time and was killed.
    #[error("CNI plugin {plugin} {command}: no answer within {} seconds", limit.as_secs())]
    TimedOut {
        /// The plugin's type.
        plugin: String,
        /// The command.
        command: &'static str,
        /// The time limit.
        limit: Duration,
    },
    /// The plugin's result can't be understood.
    #[error("CNI plugin {plugin}: malformed result: {reason}")]
    BadResult {
        /// The plugin's type, or the network's name.
        plugin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// All went well, but the pod has no address.
    #[error("CNI network {network} gave interface {ifname} no address")]
    NoAddress {
        /// The network's name.
        network: String,
        /// The pod's interface.
        ifname: String,
    },
    /// The task that runs the plugins ended early: the daemon is shutting down.
    #[error("CNI {command} was interrupted")]
    Interrupted {
        /// The command.
        command: &'static str,
    },
}

/// This module's result.
pub type Result<T, E = CniError> = std::result::Result<T, E>;

impl CniError {
    pub(super) fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| CniError::Io { verb, path, source }
    }

    pub(super) fn invalid(field: &'static str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        CniError::Invalid {
            field,
            value: value.into(),
            reason: reason.into(),
        }
    }
}

fn reasons(skipped: &[String]) -> String {
    if skipped.is_empty() {
        String::new()
    } else {
        format!(" ({})", skipped.join("; "))
    }
}

fn separated(details: &str) -> String {
    if details.is_empty() {
        String::new()
    } else {
        format!("; {details}")
    }
}
