//! Channels of one WebSocket, each an [`Inbox`] or a [`Sender`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use super::codec;
use crate::streaming::error::StreamError;
use crate::streaming::inbox::{End, Inbox, Pushed};
use crate::streaming::io::{Input, Output};
use crate::streaming::link::Link;
use crate::streaming::negotiate::Codec;

/// Bytes that one channel's input may hold.
const WINDOW: usize = 256 << 10;
/// Bytes of content in one message.
const CHUNK: usize = 32 << 10;
/// Messages that wait to be written: as much as is read from a busy pipe at once.
const QUEUE: usize = 8;
/// How often a client that is not being read from gets a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// How long a client that takes nothing in may keep a connection that we have ended.
const LINGER: Duration = Duration::from_secs(60);
/// The channel whose messages say which other channel the client has closed (version 5).
const CLOSE_SIGNAL: u8 = 255;

/// A channel on which the client sends.
#[derive(Debug)]
pub(in crate::streaming) struct Channel {
    number: u8,
    inbox: Arc<Inbox>,
}

impl Channel {
    /// A channel of that number, and what comes on it.
    pub(in crate::streaming) fn new(number: u8) -> (Self, Input) {
        let inbox = Arc::new(Inbox::new(WINDOW));
        let input = Input::new(Arc::clone(&inbox), None);
        (Self { number, inbox }, input)
    }
}

/// A WebSocket with channels. Dropped, it is cut off; [`Connection::close`] ends it in order.
#[derive(Debug)]
pub(in crate::streaming) struct Connection {
    link: Link,
    codec: Codec,
    queue: mpsc::Sender<Message>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Connection {
    /// Takes over a WebSocket on which the client sends on `channels`.
    pub(in crate::streaming) fn start<T>(
        socket: T,
        link: Link,
        codec: Codec,
        channels: Vec<Channel>,
        idle: Duration,
    ) -> Self
    where
        T: Stream<Item = tungstenite::Result<Message>> + Sink<Message> + Send + 'static,
    {
        let (to, from) = socket.split();
        let (queue, messages) = mpsc::channel(QUEUE);
        let reader = Reader {
            codec,
            channels: channels.into_iter().map(|c| (c.number, c.inbox)).collect(),
            link: link.clone(),
            queue: queue.clone(),
        };
        Self {
            reader: tokio::spawn(reader.run(from, idle)),
            writer: tokio::spawn(write(to, messages, link.clone())),
            link,
            codec,
            queue,
        }
    }

    /// The sending side of a channel.
    pub(in crate::streaming) fn output(&self, channel: u8) -> Output {
        Output::WebSocket(Sender {
            channel,
            codec: self.codec,
            queue: self.queue.clone(),
        })
    }

    /// Closes the WebSocket behind everything that was sent, and waits for the client to leave.
    pub(in crate::streaming) async fn close(mut self) {
        self.link.touch();
        let good_bye = Message::Close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        }));
        let ending = async {
            if self.queue.send(good_bye).await.is_ok() {
                drop((&mut self.writer).await);
                drop((&mut self.reader).await);
            }
        };
        tokio::select! {
            () = ending => {}
            () = self.link.closed() => {}
            () = self.link.idle(LINGER) => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// The sending side of a channel.
#[derive(Debug)]
pub(in crate::streaming) struct Sender {
    channel: u8,
    codec: Codec,
    queue: mpsc::Sender<Message>,
}

impl Sender {
    /// Sends all of `bytes`, as fast as the client takes them; an empty message for none.
    ///
    /// # Errors
    /// [`StreamError::Closed`].
    pub(in crate::streaming) async fn send(&mut self, mut bytes: Bytes) -> Result<(), StreamError> {
        loop {
            let piece = bytes.split_to(bytes.len().min(CHUNK));
            let message = codec::encode(self.codec, self.channel, &piece);
            self.queue.send(message).await.map_err(|_| StreamError::Closed)?;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }
}

async fn write<T: Sink<Message> + Unpin>(mut to: T, mut messages: mpsc::Receiver<Message>, link: Link) {
    let writing = async {
        while let Some(message) = messages.recv().await {
            let (mut next, mut is_last, mut has_content) = (Some(message), false, false);
            // Those that wait already go out together.
            while let Some(message) = next {
                is_last = matches!(message, Message::Close(_));
                has_content |= !matches!(message, Message::Pong(_));
                if to.feed(message).await.is_err() {
                    link.close();
                }
                next = if is_last { None } else { messages.try_recv().ok() };
            }
            if to.flush().await.is_err() {
                link.close();
            }
            if has_content {
                link.touch();
            }
            if is_last {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = link.closed() => {}
    }
}

struct Reader {
    codec: Codec,
    channels: HashMap<u8, Arc<Inbox>>,
    link: Link,
    queue: mpsc::Sender<Message>,
}

impl Reader {
    async fn run<T>(self, mut from: T, idle: Duration)
    where
        T: Stream<Item = tungstenite::Result<Message>> + Unpin,
    {
        let reading = async {
            while let Some(Ok(message)) = from.next().await {
                // Pings are answered by the library, with the next read.
                if let Some((channel, content)) = codec::decode(self.codec, message) {
                    self.link.touch();
                    self.deliver(channel, &content).await;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = self.link.idle(idle) => {}
            () = self.link.closed() => {}
        }
        self.link.close();
        for inbox in self.channels.values() {
            inbox.end(End::Broken);
        }
    }

    /// What comes on channels that the client has no business with is dropped.
    async fn deliver(&self, channel: u8, mut content: &[u8]) {
        if channel == CLOSE_SIGNAL {
            let closed = content.first().and_then(|channel| self.channels.get(channel));
            return closed.into_iter().for_each(|inbox| inbox.end(End::Finished));
        }
        let Some(inbox) = self.channels.get(&channel) else {
            return;
        };
        while !content.is_empty() {
            match inbox.push(content) {
                Pushed::Dropped => return,
                Pushed::Kept(count) => content = &content[count..],
            }
            while timeout(SIGN_OF_LIFE, inbox.room()).await.is_err() {
                // If the queue is full the client doesn't read either, and gets enough of it.
                drop(self.queue.try_send(Message::Pong(Bytes::new())));
            }
        }
    }
}
