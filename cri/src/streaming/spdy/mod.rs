//! SPDY/3.1, the server's side, as far as exec, attach and port-forward need it: streams opened by the client, data both
//! ways, half-close, flow control.
//!
//! ```text
//!                 ┌─▶ accept ──▶ Stream { headers, Input, Output }
//!   socket ─▶ reader ─▶ Inbox of each stream ─▶ Input
//!                 └─▶ answers ─▶ control queue ─▶ writer ─▶ socket
//!   Output ─▶ (windows) ─▶ data queue, short ───────┘
//! ```
//!
//! **Flow control.** The one client that matters, spdystream (kubelet, kubectl, crictl), neither keeps windows nor
//! opens them. So windows bind our sending from the moment on at which the client shows that it keeps them, by a
//! SETTINGS or WINDOW_UPDATE frame; until then the connection's own back-pressure is all there is. Ours are opened for
//! every client until it sends more than they allow; one that ignores them is no longer read from once a stream's inbox
//! is full.
//!
//! **Bounds.** Per stream an inbox of one window; per connection [`connection::MAX_STREAMS`] streams, a few frames in
//! the data queue, and control frames only as many as the client takes in: while too many wait, nothing is read.

mod connection;
mod dictionary;
mod frame;
mod headers;
#[cfg(test)]
mod properties;
mod reader;
mod sender;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use connection::{Connection, Limits};
pub(super) use sender::{Credit, Sender, Stream};

/// How a client broke the protocol; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A control frame of another version of SPDY.
    #[error("version {0} is not spoken here")]
    Version(u16),
    /// A frame that may belong to no stream but stream 0, or must belong to one.
    #[error("a frame of stream 0")]
    StreamZero,
    /// A frame that is shorter than its kind needs.
    #[error("a frame is cut short")]
    Truncated,
    /// A frame that is longer than anything sensible.
    #[error("a frame is too large")]
    FrameTooLarge,
    /// Headers that inflate to more than anything sensible.
    #[error("headers are too large")]
    HeadersTooLarge,
    /// Headers that are no headers.
    #[error("headers can't be read")]
    BadHeaders,
    /// A window that would be too large, or grow by nothing.
    #[error("a window's size is out of range")]
    BadWindow,
    /// Something that may not come at this point.
    #[error("{0} is not expected")]
    Unexpected(&'static str),
}
