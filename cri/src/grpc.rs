//! The one place that maps errors to gRPC codes. kubelet branches on `NotFound`, `DeadlineExceeded` and `Unimplemented`,
//! and strips `Unknown` from a failed pull so that it can match the text behind.

use netplug::Error as NetworkError;
use pintle_images::Error as ImageError;
use pintle_runtime::Error as RuntimeError;
use pintle_runtime::error::Kind;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::cni::CniError;
use crate::error::Error;
use crate::events::TOKEN;
use crate::nri::NriError;
use crate::spec::gather::GatherError;
use crate::streaming::StreamError;

/// Bytes of a message. It goes out in a header, of which clients take some 16 KiB, three bytes for one where it must
/// be escaped; and what it quotes of a request may be megabytes.
const LONGEST: usize = 4096;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut metadata = MetadataMap::new();
        if let Error::EventsForgotten { oldest } = error {
            metadata.insert(TOKEN, MetadataValue::from(oldest));
        }
        Self::with_metadata(code(&error), shortened(error.to_string()), metadata)
    }
}

/// The beginning and the end of what is too long: it begins with what was done, and ends with why it failed.
fn shortened(message: String) -> String {
    if message.len() <= LONGEST {
        return message;
    }
    let is_boundary = |at: &usize| message.is_char_boundary(*at);
    let begin = (0..=LONGEST / 2).rev().find(is_boundary).unwrap_or(0);
    let end = (message.len() - LONGEST / 2..=message.len()).find(is_boundary);
    let end = end.unwrap_or(message.len());
    format!("{} [...] {}", &message[..begin], &message[end..])
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid { .. } | Error::Ambiguous { .. } | Error::Spec(_) | Error::BadCheckpoint(_) => {
            Code::InvalidArgument
        }
        Error::Gather(GatherError::NoDevice { .. }) => Code::InvalidArgument,
        Error::NotFound { .. } | Error::ImageNotLocal(_) | Error::Nri(NriError::NoContainer(_)) => {
            Code::NotFound
        }
        Error::Nri(NriError::Rejected { .. }) => Code::PermissionDenied,
        Error::Nri(NriError::Busy(_)) => Code::Unavailable,
        Error::WrongState { .. } => Code::FailedPrecondition,
        Error::NameTaken { .. } => Code::AlreadyExists,
        Error::ExecTimeout { .. } | Error::CheckpointTimeout { .. } | Error::Unkillable(_) => {
            Code::DeadlineExceeded
        }
        Error::EventsForgotten { .. } => Code::OutOfRange,
        Error::SlowListener => Code::ResourceExhausted,
        Error::Shared(error) => code(error),
        Error::Images(error) => image_code(error),
        Error::Runtime(error) => runtime_code(error),
        Error::Network(NetworkError::Invalid { .. }) | Error::Cni(CniError::Invalid { .. }) => {
            Code::InvalidArgument
        }
        Error::Network(NetworkError::PortTaken { .. }) => Code::AlreadyExists,
        Error::Streaming(StreamError::TooManyWaiting) => Code::ResourceExhausted,
        Error::Config(_)
        | Error::Gather(_)
        | Error::Teardown(_)
        | Error::Busy(_)
        | Error::Panicked(_)
        | Error::Network(_)
        | Error::Cni(_)
        | Error::Nri(
            NriError::Plugin { .. }
            | NriError::Conflict { .. }
            | NriError::UpdateInCreation { .. }
            | NriError::Adjustment { .. }
            | NriError::Join { .. }
            | NriError::Launch { .. },
        )
        | Error::Streaming(
            StreamError::Closed
            | StreamError::StreamsMissing
            | StreamError::Spdy(_)
            | StreamError::Tls { .. }
            | StreamError::Connect { .. },
        )
        | Error::Io { .. }
        | Error::Serve(_) => Code::Internal,
    }
}

/// Codes of a failed pull stay `Unknown` where kubelet wants to read the text.
fn image_code(error: &ImageError) -> Code {
    match error {
        ImageError::InvalidReference { .. }
        | ImageError::AmbiguousId { .. }
        | ImageError::InvalidContainerId { .. }
        | ImageError::NotATag { .. }
        | ImageError::BadArchive { .. }
        | ImageError::BadCredentials { .. } => Code::InvalidArgument,
        ImageError::NoSuchImage { .. } | ImageError::NotFound { .. } | ImageError::NoPlatform { .. } => {
            Code::NotFound
        }
        ImageError::SnapshotExists { .. } => Code::AlreadyExists,
        ImageError::LayerUnavailable { .. } => Code::FailedPrecondition,
        ImageError::Cancelled => Code::Cancelled,
        ImageError::Config { .. }
        | ImageError::Database { .. }
        | ImageError::Record { .. }
        | ImageError::Io { .. }
        | ImageError::Worker { .. } => Code::Internal,
        ImageError::Unauthorized { .. }
        | ImageError::RegistryUnavailable { .. }
        | ImageError::RegistryStatus { .. }
        | ImageError::RegistryProtocol { .. }
        | ImageError::Stalled { .. }
        | ImageError::DigestMismatch { .. }
        | ImageError::SizeMismatch { .. }
        | ImageError::DiffIdMismatch { .. }
        | ImageError::BadManifest { .. }
        | ImageError::UnsupportedMediaType { .. }
        | ImageError::CredentialHelper { .. }
        | ImageError::SignatureRefused { .. }
        | ImageError::BadLayer { .. } => Code::Unknown,
    }
}

fn runtime_code(error: &RuntimeError) -> Code {
    match error.kind() {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::InvalidState => Code::FailedPrecondition,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Exec => Code::Unknown,
        Kind::Kernel | Kind::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_keep_both_ends() {
        let quoted = "\u{e9}".repeat(1 << 20);
        let status = Status::from(Error::invalid("config", format!("{quoted} is no name")));
        assert!(
            status.message().len() <= LONGEST + 16,
            "{}",
            status.message().len()
        );
        assert!(status.message().starts_with("config"), "{}", status.message());
        assert!(status.message().ends_with("\u{e9} is no name"));
        assert_eq!(shortened("x".repeat(LONGEST)).len(), LONGEST);
    }

    #[test]
    fn kubelets_codes() {
        let refused = ImageError::RegistryUnavailable {
            host: "r:5000".into(),
            reason: "connection refused".into(),
        };
        let status = Status::from(Error::from(refused));
        assert_eq!(status.code(), Code::Unknown);
        assert!(
            status.message().starts_with("RegistryUnavailable"),
            "{}",
            status.message()
        );
        let timeout = Status::from(Error::ExecTimeout { seconds: 1 });
        assert_eq!(timeout.code(), Code::DeadlineExceeded);
        let shared = Error::Shared(std::sync::Arc::new(Error::invalid("config", "is missing")));
        assert_eq!(Status::from(shared).code(), Code::InvalidArgument);
    }
}
