//! The one error enum of the crate; `cri/` maps it to gRPC codes. Messages hold nothing that changes from one
//! attempt to the next (no times, offsets or addresses of connections), so that events can be counted together.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::reference::ReferenceError;
use crate::unpack::LayerError;

/// What can go wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that is no image reference (nor an id, where ids are allowed).
    #[error("invalid image reference {reference:?}: {reason}")]
    InvalidReference {
        /// The text as given.
        reference: String,
        /// What is wrong with it.
        reason: ReferenceError,
    },
    /// A prefix of an id that fits several images.
    #[error("image id prefix {prefix:?} fits several images")]
    AmbiguousId {
        /// The prefix as given.
        prefix: String,
    },
    /// The image is not in this store.
    #[error("image {key:?} is not here")]
    NoSuchImage {
        /// The name or id that was looked for.
        key: String,
    },
    /// The registry does not have what was asked for (404).
    #[error("{host}: {what}: not found")]
    NotFound {
        /// The registry.
        host: String,
        /// The manifest or blob.
        what: String,
    },
    /// The registry refuses access (401 or 403).
    #[error("{host}: {what}: pull access denied: {status}")]
    Unauthorized {
        /// The registry.
        host: String,
        /// The manifest, blob or token.
        what: String,
        /// Status code and reason.
        status: String,
    },
    /// The registry can't be reached. The prefix is what kubelet recognises.
    #[error("RegistryUnavailable: {host}: {reason}")]
    RegistryUnavailable {
        /// The registry.
        host: String,
        /// E.g. `connection refused`.
        reason: String,
    },
    /// The registry answers with a status that is no success.
    #[error("{host}: {what}: registry answered {status}")]
    RegistryStatus {
        /// The registry.
        host: String,
        /// The manifest, blob or token.
        what: String,
        /// Status code and reason.
        status: String,
    },
    /// The registry does not keep to the protocol.
    #[error("{host}: {what}: {reason}")]
    RegistryProtocol {
        /// The registry.
        host: String,
        /// The manifest, blob or token.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// No byte came for the configured time.
    #[error("{host}: {what}: no progress for {seconds} s")]
    Stalled {
        /// The registry.
        host: String,
        /// The manifest or blob.
        what: String,
        /// The configured limit.
        seconds: u64,
    },
    /// Content that is not what its digest says.
    #[error("digest mismatch: the content that came for {digest} has another digest")]
    DigestMismatch {
        /// The digest asked for.
        digest: Digest,
    },
    /// Content that is longer or shorter than its descriptor says.
    #[error("size mismatch: {digest} is not {expected} bytes long")]
    SizeMismatch {
        /// The digest asked for.
        digest: Digest,
        /// The size its descriptor states.
        expected: u64,
    },
    /// A layer that unpacks to something else than the image's configuration says.
    #[error("diff id mismatch: layer {digest} does not unpack to {diff_id}")]
    DiffIdMismatch {
        /// The compressed layer.
        digest: Digest,
        /// What the configuration says.
        diff_id: Digest,
    },
    /// A manifest, index or configuration that can't be used.
    #[error("{what} {digest}: {reason}")]
    BadManifest {
        /// `manifest`, `index` or `image configuration`.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// Content of a kind that is no container image.
    #[error("unsupported media type {media_type:?} of {digest}")]
    UnsupportedMediaType {
        /// The type as stated.
        media_type: String,
        /// What states it.
        digest: Digest,
    },
    /// An index without an image for this machine.
    #[error("{reference} has no image for platform {platform}")]
    NoPlatform {
        /// The index.
        reference: String,
        /// E.g. `linux/amd64`.
        platform: String,
    },
    /// A layer whose content can't be unpacked or must not be.
    #[error("layer {digest}: {source}")]
    BadLayer {
        /// The compressed layer.
        digest: Digest,
        /// What is wrong with it.
        source: LayerError,
    },
    /// The pull was given up by its caller.
    #[error("the pull was cancelled")]
    Cancelled,
    /// A container id that can't name a folder.
    #[error("invalid container id {id:?}")]
    InvalidContainerId {
        /// The id as given.
        id: String,
    },
    /// The container has a snapshot already.
    #[error("container {id} has a snapshot already")]
    SnapshotExists {
        /// The container.
        id: String,
    },
    /// A value of the configuration that can't be used.
    #[error("{key}: {value:?}: {reason}")]
    Config {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Credentials that can't be used.
    #[error("credentials: {reason}")]
    BadCredentials {
        /// What is wrong, without the secret.
        reason: &'static str,
    },
    /// A credential helper that can't be asked.
    #[error("credential helper {helper:?}: {reason}")]
    CredentialHelper {
        /// Its name, without `docker-credential-`.
        helper: String,
        /// What went wrong, without the secret.
        reason: &'static str,
    },
    /// What the policy wants signed is not, or not by whom it wants. The prefix is what kubelet recognises.
    #[error("SignatureValidationFailed: {reference}: {reason}")]
    SignatureRefused {
        /// The image.
        reference: String,
        /// What is wrong with its signatures.
        reason: String,
    },
    /// A name with a digest, where only a tag can be given.
    #[error("{name:?} is no tag")]
    NotATag {
        /// The name as given.
        name: String,
    },
    /// A layer that is not here in the form that is needed.
    #[error("layer {diff_id}: {reason}")]
    LayerUnavailable {
        /// The layer.
        diff_id: Digest,
        /// Why it can't be given back.
        reason: String,
    },
    /// An archive that holds no images, or broken ones.
    #[error("image archive: {reason}")]
    BadArchive {
        /// What is wrong with it.
        reason: String,
    },
    /// The records can't be read or written.
    #[error("{verb} image records: {source}")]
    Database {
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        source: Box<redb::Error>,
    },
    /// A record that can't be read.
    #[error("image record {key}: {source}")]
    Record {
        /// Its table and key.
        key: String,
        /// Why it can't be read.
        source: serde_json::Error,
    },
    /// A system call on a file failed.
    #[error("{verb} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A worker thread ended in a panic.
    #[error("{what} ended unexpectedly")]
    Worker {
        /// What it was doing.
        what: &'static str,
    },
}

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Gives an I/O result its verb and path.
pub(crate) trait IoContext<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io {
            verb,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// Gives a redb result its verb.
pub(crate) trait DatabaseContext<T> {
    fn doing(self, verb: &'static str) -> Result<T>;
}

impl<T, E: Into<redb::Error>> DatabaseContext<T> for Result<T, E> {
    fn doing(self, verb: &'static str) -> Result<T> {
        self.map_err(|source| Error::Database {
            verb,
            source: Box::new(source.into()),
        })
    }
}
