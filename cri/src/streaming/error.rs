//! What can go wrong between the streaming server and its clients.

use std::io;
use std::path::PathBuf;

use super::spdy::Violation;

/// Why a streaming request, or its server, failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Too many URLs have been handed out that nobody has come for yet.
    #[error("too many streaming requests wait for their clients")]
    TooManyWaiting,
    /// The client left, or closed the stream that was written to.
    #[error("the client has closed the stream")]
    Closed,
    /// The client did not open all the streams that its request names.
    #[error("the client did not open its streams in time")]
    StreamsMissing,
    /// The client broke the protocol.
    #[error("SPDY: {0}")]
    Spdy(#[from] Violation),
    /// Certificate or key can't be used.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing listens on that port of the pod.
    #[error("failed to connect to localhost:{port} inside the pod: {source}")]
    Connect {
        /// The port.
        port: u16,
        /// The kernel's reason, of the last address tried.
        source: io::Error,
    },
}
