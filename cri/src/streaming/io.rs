//! The two halves of a client's stream, whichever protocol carries it.

use std::sync::Arc;

use bytes::Bytes;

use super::error::StreamError;
use super::inbox::{Inbox, Taken};
use super::{spdy, websocket};

/// What a client sends on one stream. Dropped, the rest is thrown away as it comes.
#[derive(Debug)]
pub(super) struct Input {
    inbox: Arc<Inbox>,
    credit: Option<spdy::Credit>,
}

impl Input {
    /// The reading side of an inbox; `credit` tells a client that keeps windows what was used up.
    pub(super) fn new(inbox: Arc<Inbox>, credit: Option<spdy::Credit>) -> Self {
        Self { inbox, credit }
    }

    /// Waits for more. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Taken {
        let taken = self.inbox.take().await;
        if let (Taken::Data(data), Some(credit)) = (&taken, &self.credit) {
            credit.used(data.len());
        }
        taken
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let dropped = self.inbox.discard();
        if let Some(credit) = self.credit.as_ref().filter(|_| dropped > 0) {
            credit.used(dropped);
        }
    }
}

/// What a client is sent on one stream.
#[derive(Debug)]
pub(super) enum Output {
    /// A stream of its own.
    Spdy(spdy::Sender),
    /// A channel of a WebSocket.
    WebSocket(websocket::Sender),
}

impl Output {
    /// Sends everything, as fast as the client takes it.
    ///
    /// # Errors
    /// [`StreamError::Closed`]: the client has left, or given up the stream.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match self {
            Self::Spdy(sender) => sender.send(bytes).await,
            Self::WebSocket(sender) => sender.send(bytes).await,
        }
    }

    /// Tells the client that this broke off behind what was sent, where the protocol can.
    pub(super) async fn reset(self) {
        match self {
            Self::Spdy(sender) => sender.reset().await,
            Self::WebSocket(_) => {}
        }
    }

    /// Tells the client that no more comes, where the protocol can.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub(super) async fn finish(&mut self) -> Result<(), StreamError> {
        match self {
            Self::Spdy(sender) => sender.finish().await,
            // A WebSocket's channels end together, with their connection.
            Self::WebSocket(_) => Ok(()),
        }
    }
}
