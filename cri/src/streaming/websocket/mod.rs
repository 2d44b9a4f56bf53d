//! WebSockets: streams as numbered channels, or a SPDY connection in a tunnel.
//!
//! The protocol of the frames is tungstenite's. A message's first byte names its channel. There are no windows: a client
//! whose input nobody takes is no longer read from, and gets a pong now and then so that it doesn't take us for dead.

mod channels;
mod codec;
#[cfg(test)]
mod properties;
mod tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

pub(super) use channels::{Channel, Connection, Sender};
pub(super) use codec::BASE64_CHANNELS;
pub(super) use tunnel::tunnel;

/// The longest message taken, in bytes; clients cut what they send into pieces of 32 KiB.
const MAX_MESSAGE: usize = 1 << 20;

/// Makes a WebSocket of a connection whose upgrade has been answered.
pub(super) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(64 << 10)
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
