//! What can go wrong with plugins.

use std::path::PathBuf;

use super::link::CallError;

/// Why a plugin's wish, or a plugin itself, is refused; each names the plugin.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NriError {
    /// A plugin answered a request with an error.
    #[error("NRI plugin {plugin} failed {request}: {source}")]
    Plugin {
        /// The plugin, as `index-name`.
        plugin: String,
        /// The request.
        request: &'static str,
        /// Its words, or what is wrong with its answer.
        source: CallError,
    },
    /// Two plugins want the same thing to be different.
    #[error("NRI plugins {one} and {other} both tried to set {what}")]
    Conflict {
        /// The one that came later.
        one: String,
        /// The one that had it.
        other: String,
        /// The field, with its key.
        what: String,
    },
    /// A plugin wants to change a container that is only being made.
    #[error("NRI plugin {plugin} asked for an update of the container that is being created")]
    UpdateInCreation {
        /// The plugin.
        plugin: String,
    },
    /// What the plugins want can't be.
    #[error("NRI adjustment of {field}: {reason}")]
    Adjustment {
        /// The field.
        field: &'static str,
        /// What is wrong with it, with the value.
        reason: String,
    },
    /// A validator rejects what the other plugins want.
    #[error("NRI validator {plugin} rejected the adjustment: {reason}")]
    Rejected {
        /// The validator.
        plugin: String,
        /// Its words.
        reason: String,
    },
    /// An update for a container that there is not.
    #[error("NRI update: there is no container {0:?}")]
    NoContainer(String),
    /// A container that was busy for as long as a plugin may take.
    #[error("NRI update: container {0:?} is busy")]
    Busy(String),
    /// A plugin that can't join.
    #[error("NRI plugin {plugin}: {reason}")]
    Join {
        /// The plugin, as far as it is known.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// A file in the folder of plugins.
    #[error("NRI plugin {}: {reason}", path.display())]
    Launch {
        /// The program.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl NriError {
    /// An [`NriError::Adjustment`].
    pub(super) fn adjustment(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Adjustment {
            field,
            reason: reason.into(),
        }
    }

    /// An [`NriError::Join`].
    pub(super) fn join(plugin: &str, reason: impl Into<String>) -> Self {
        Self::Join {
            plugin: plugin.to_owned(),
            reason: reason.into(),
        }
    }
}
