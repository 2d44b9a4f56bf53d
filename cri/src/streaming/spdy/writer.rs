//! The task that alone writes to the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::frame::Outgoing;
use super::headers::Deflater;
use super::shared::Shared;

/// Bytes that are gathered for one write.
const BATCH: usize = 256 << 10;
/// How long a client that broke the protocol may take to read what we say to that.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Writes frames until GOAWAY, which is always the last one, or until the connection is gone.
pub(super) struct Writer<W> {
    pub(super) to: W,
    pub(super) shared: Arc<Shared>,
    pub(super) control: mpsc::UnboundedReceiver<Outgoing>,
    pub(super) data: mpsc::Receiver<Outgoing>,
    pub(super) deflater: Deflater,
    pub(super) buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) async fn run(mut self) {
        let link = self.shared.link.clone();
        let done = tokio::select! {
            done = self.write_all() => done,
            () = link.closed() => {
                // A violation's GOAWAY may still wait.
                drop(tokio::time::timeout(LAST_WORDS, self.write_last()).await);
                return;
            }
        };
        if done.is_err() {
            link.close();
        }
    }

    async fn write_all(&mut self) -> io::Result<()> {
        loop {
            let mut next = tokio::select! {
                biased;
                frame = self.control.recv() => { self.shared.control_taken(); frame }
                frame = self.data.recv() => frame,
            };
            let mut is_last = false;
            // Pings and their answers keep no session alive.
            let has_content = matches!(next, Some(Outgoing::Data { .. }));
            while let Some(frame) = next {
                is_last |= self.gather(&frame);
                next = match self.buffer.len() < BATCH && !is_last {
                    true => self.data.try_recv().ok(),
                    false => None,
                };
            }
            self.to.write_all(&self.buffer).await?;
            self.to.flush().await?;
            self.buffer.clear();
            if has_content {
                self.shared.link.touch();
            }
            if is_last {
                return self.to.shutdown().await;
            }
        }
    }

    /// Encodes a frame, behind the control frames that wait: the one that accepts a stream was queued before the
    /// stream's first data, and has to go first. Whether it was the last frame of all.
    fn gather(&mut self, frame: &Outgoing) -> bool {
        if let Outgoing::Data { .. } | Outgoing::GoAway { .. } = frame {
            self.gather_control();
        }
        frame.encode(&mut self.deflater, &mut self.buffer);
        matches!(frame, Outgoing::GoAway { .. })
    }

    fn gather_control(&mut self) {
        while let Ok(frame) = self.control.try_recv() {
            self.shared.control_taken();
            frame.encode(&mut self.deflater, &mut self.buffer);
        }
    }

    async fn write_last(&mut self) -> io::Result<()> {
        // What was being written may be half out, and then so has to stay: no frame may follow a half one.
        if self.buffer.is_empty() {
            self.gather_control();
            self.to.write_all(&self.buffer).await?;
        }
        self.to.shutdown().await
    }
}
