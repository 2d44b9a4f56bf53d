//! One stream, from the side of who uses it.

use std::sync::Arc;

use bytes::Bytes;

use super::frame::{Outgoing, Reset};
use super::headers::Headers;
use super::shared::{Leave, Shared};
use crate::streaming::error::StreamError;
use crate::streaming::io::{Input, Output};

/// Bytes of content in one frame.
const CHUNK: usize = 32 << 10;

/// A stream that the client has opened, and may wait for a reply.
#[derive(Debug)]
pub(in crate::streaming) struct Stream {
    /// Odd, and higher than all before.
    pub(in crate::streaming) id: u32,
    /// What the client says of it.
    pub(in crate::streaming) headers: Headers,
    /// What the client sends.
    pub(in crate::streaming) input: Input,
    /// What it is sent. Dropped unfinished, it gives the stream up.
    pub(in crate::streaming) output: Output,
    pub(super) shared: Arc<Shared>,
}

impl Stream {
    /// Accepts it; clients wait for that.
    pub(in crate::streaming) fn reply(&self) {
        self.shared.queue_control(Outgoing::Reply { stream: self.id });
    }
}

/// Opens a stream's window as its input is used up.
#[derive(Debug)]
pub(in crate::streaming) struct Credit {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u32,
}

impl Credit {
    /// So many bytes were taken, or dropped.
    pub(in crate::streaming) fn used(&self, count: usize) {
        self.shared.used(self.id, count);
    }
}

/// The sending half of a stream.
#[derive(Debug)]
pub(in crate::streaming) struct Sender {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u32,
    pub(super) is_done: bool,
}

impl Sender {
    /// Sends all of `bytes`, as fast as the client takes them. Dropping the future may leave a part of them sent.
    ///
    /// # Errors
    /// [`StreamError::Closed`].
    pub(in crate::streaming) async fn send(&mut self, mut bytes: Bytes) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let wanted = bytes.len().min(CHUNK);
            self.shared.until_leave(self.id, wanted).await;
            // The place in the queue first: credit that was taken can't be lost then by dropping this future.
            let place = self
                .shared
                .data
                .reserve()
                .await
                .map_err(|_| StreamError::Closed)?;
            match self.shared.leave(self.id, wanted, true) {
                Leave::Yes(count) => place.send(Outgoing::Data {
                    stream: self.id,
                    fin: false,
                    bytes: bytes.split_to(count),
                }),
                Leave::NotNow => {}
                Leave::Never => return Err(StreamError::Closed),
            }
        }
        Ok(())
    }

    /// Half-closes the stream: what was sent before arrives before.
    ///
    /// # Errors
    /// [`StreamError::Closed`].
    pub(in crate::streaming) async fn finish(&mut self) -> Result<(), StreamError> {
        if self.is_done {
            return Ok(());
        }
        let place = self
            .shared
            .data
            .reserve()
            .await
            .map_err(|_| StreamError::Closed)?;
        self.is_done = true;
        if let Leave::Never = self.shared.leave(self.id, 0, false) {
            return Err(StreamError::Closed);
        }
        place.send(Outgoing::Data {
            stream: self.id,
            fin: true,
            bytes: Bytes::new(),
        });
        self.shared.we_are_done(self.id);
        Ok(())
    }

    /// Gives the stream up, behind what was sent before; dropping it would overtake that.
    pub(in crate::streaming) async fn reset(mut self) {
        if let Ok(place) = self.shared.data.reserve().await
            && self.shared.forget(self.id)
        {
            place.send(Outgoing::Reset {
                stream: self.id,
                why: Reset::Cancel,
            });
            self.is_done = true;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.reset(self.id, Reset::Cancel);
        }
    }
}
