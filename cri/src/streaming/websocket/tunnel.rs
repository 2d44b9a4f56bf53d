//! A byte stream in a WebSocket's binary messages.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::streaming::link::Link;

/// Bytes on their way between the WebSocket and whoever speaks through it.
const BUFFER: usize = 128 << 10;
/// Bytes in one message.
const CHUNK: usize = 64 << 10;
/// How often a client that is not being read from gets a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// How long a client may take to read our closing the WebSocket.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The near end of the tunnel. The WebSocket is closed once `link` is.
pub(in crate::streaming) fn tunnel<T>(socket: T, link: Link) -> DuplexStream
where
    T: Stream<Item = tungstenite::Result<Message>> + Sink<Message> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let (from_user, to_user) = tokio::io::split(far);
        let (mut to_client, from_client) = socket.split();
        let (signs, life) = mpsc::channel(1);
        let inward = inward(from_client, to_user, signs);
        let outward = outward(&mut to_client, from_user, life);
        tokio::select! {
            () = async { tokio::join!(inward, outward); } => {}
            () = link.closed() => {}
        }
        drop(timeout(LAST_WORDS, to_client.send(Message::Close(None))).await);
    });
    near
}

async fn inward<T>(mut from: T, mut to: WriteHalf<DuplexStream>, signs: mpsc::Sender<()>)
where
    T: Stream<Item = tungstenite::Result<Message>> + Unpin,
{
    while let Some(Ok(message)) = from.next().await {
        let Message::Binary(mut content) = message else {
            continue;
        };
        while !content.is_empty() {
            match timeout(SIGN_OF_LIFE, to.write_buf(&mut content)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return,
                Err(_) => drop(signs.try_send(())),
            }
        }
    }
    // The client has closed the WebSocket: that is the end of its bytes. Whoever speaks through the tunnel goes then.
    drop(to.shutdown().await);
}

async fn outward<T>(to: &mut T, mut from: ReadHalf<DuplexStream>, mut life: mpsc::Receiver<()>)
where
    T: Sink<Message> + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let message = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) => Message::binary(Bytes::copy_from_slice(&buffer[..count])),
                // No more comes, but the client may still have to look at what did: it is the one who closes.
                _ => return,
            },
            Some(()) = life.recv() => Message::Pong(Bytes::new()),
        };
        if to.send(message).await.is_err() {
            return;
        }
    }
}
