//! Why a CRI config can't be translated.

/// The config of a request can't be carried out. Each names the field and the value, and nothing that changes from
/// try to try, so that equal events stay equal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A field that must be there isn't.
    #[error("{field} is missing")]
    Missing {
        /// The field's path in the request.
        field: &'static str,
    },
    /// A field's value can't be used.
    #[error("{field} {value:?}: {reason}")]
    Invalid {
        /// The field's path in the request.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither the config nor the image says what to run.
    #[error("no command specified: command and args are empty, and the image has neither ENTRYPOINT nor CMD")]
    NoCommand,
    /// A name that the image's /etc/passwd or /etc/group doesn't have.
    #[error("{field} {name:?}: no such {kind} in the image")]
    UnknownName {
        /// Where the name comes from.
        field: &'static str,
        /// The name.
        name: String,
        /// `user` or `group`.
        kind: &'static str,
    },
    /// The sandbox doesn't permit what the container asks for.
    #[error("{field}: {reason}")]
    NotPermitted {
        /// The field's path in the request.
        field: &'static str,
        /// What the sandbox lacks.
        reason: &'static str,
    },
    /// This node can't do it.
    #[error("{field} {value:?}: {reason}")]
    Unsupported {
        /// The field's path in the request.
        field: &'static str,
        /// Its value.
        value: String,
        /// What the node lacks.
        reason: &'static str,
    },
    /// Recursive read-only mounts can't be had this way; clients know the text by its beginning.
    #[error("RROUnsupported: mount at {container_path:?}: {reason}")]
    RecursiveReadOnly {
        /// The mount.
        container_path: String,
        /// What stands against it.
        reason: &'static str,
    },
    /// An image can't be mounted; clients know the text by its beginning.
    #[error("ImageVolumeMountFailed: image {image:?} at {container_path:?}: {reason}")]
    ImageVolume {
        /// The image, as the request names it.
        image: String,
        /// The mount.
        container_path: String,
        /// What stands against it.
        reason: &'static str,
    },
    /// Mounts of the host can't be seen in the container as asked for.
    #[error("mounts {host_path:?}: propagation {propagation} needs a source on a {needs} mount of the host")]
    Propagation {
        /// The mount's source.
        host_path: String,
        /// As CRI names it.
        propagation: &'static str,
        /// `shared`, or `shared or slave`.
        needs: &'static str,
    },
}

impl SpecError {
    /// A [`SpecError::Invalid`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "text and numbers alike, without a `&` at each call"
    )]
    pub(super) fn invalid(field: &'static str, value: impl ToString, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            value: value.to_string(),
            reason: reason.into(),
        }
    }
}
