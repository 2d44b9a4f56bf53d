//! One connection: its tasks, its streams, its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::frame::Outgoing;
use super::headers::Deflater;
use super::reader::Reader;
use super::sender::Stream;
use super::shared::Shared;
use super::writer::Writer;
use crate::streaming::link::Link;

/// Streams that may be open at once: two for each forwarded connection.
pub(super) const MAX_STREAMS: usize = 1000;
/// The window of a new stream and of a new connection (draft 3, section 2.6.8), in bytes.
pub(super) const WINDOW: u32 = 64 << 10;
/// Data frames that wait to be written: as much as is read from a busy pipe at once.
const QUEUE: usize = 8;
/// How long a client that takes nothing in may keep a connection that we have ended.
const LINGER: Duration = Duration::from_secs(60);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::streaming) struct Limits {
    /// Nothing passes in either direction: the connection ends.
    pub(in crate::streaming) idle: Duration,
    /// One stream whose input nobody takes holds up all others: it is reset. None for never.
    pub(in crate::streaming) stuck: Option<Duration>,
}

/// A connection. Dropped, it is cut off; [`Connection::close`] ends it in order.
#[derive(Debug)]
pub(in crate::streaming) struct Connection {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Stream>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Connection {
    /// Takes over a connection that has been upgraded.
    pub(in crate::streaming) fn start<T>(io: T, link: Link, limits: Limits) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (from, to) = tokio::io::split(io);
        let (data, queue) = mpsc::channel(QUEUE);
        let (control, answers) = mpsc::unbounded_channel();
        let (sink, incoming) = mpsc::channel(MAX_STREAMS);
        let shared = Arc::new(Shared::new(link, data, control));
        let writer = Writer {
            to,
            shared: Arc::clone(&shared),
            control: answers,
            data: queue,
            deflater: Deflater::new(),
            buffer: BytesMut::new(),
        };
        let reader = Reader::new(from, Arc::clone(&shared), sink, limits.stuck);
        Self {
            reader: tokio::spawn(read(reader, Arc::clone(&shared), limits.idle)),
            writer: tokio::spawn(writer.run()),
            shared,
            incoming,
        }
    }

    /// The next stream that the client opens; None when the connection is gone.
    pub(in crate::streaming) async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Says good-bye behind everything that was sent, and waits for the client to leave: clients that see the connection
    /// closed drop what they haven't looked at yet.
    pub(in crate::streaming) async fn close(mut self) {
        self.incoming.close();
        while let Ok(stream) = self.incoming.try_recv() {
            drop(stream);
        }
        self.shared.discard_all();
        self.shared.link.touch();
        let good_bye = Outgoing::GoAway {
            last: self.shared.last(),
            broken: false,
        };
        let ending = async {
            if self.shared.data.send(good_bye).await.is_ok() {
                drop((&mut self.writer).await);
                drop((&mut self.reader).await);
            }
        };
        let link = &self.shared.link;
        tokio::select! {
            () = ending => {}
            () = link.closed() => {}
            () = link.idle(LINGER) => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.link.close();
    }
}

async fn read<R: AsyncRead + Unpin>(mut reader: Reader<R>, shared: Arc<Shared>, idle: Duration) {
    let link = shared.link.clone();
    let read = tokio::select! {
        read = reader.run() => read,
        () = link.idle(idle) => Ok(()),
        () = link.closed() => Ok(()),
    };
    if let Err(violation) = read {
        tracing::warn!(error = %violation, "a streaming client broke SPDY");
        shared.queue_control(Outgoing::GoAway {
            last: shared.last(),
            broken: true,
        });
    }
    link.close();
    shared.forget_all();
}
