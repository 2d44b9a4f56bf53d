//! What a client has sent on one stream and nobody has read yet: a bounded buffer between the task that reads the
//! connection and the one that uses the stream.
//!
//! ```text
//!   connection ── push ──▶ at most `limit` bytes ──▶ take ── user
//!        └──────── room ◀── drained
//! ```
//!
//! It counts bytes, not messages: many small ones cost no more than few big ones.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// How a stream's input came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client has no more to send.
    Finished,
    /// The client gave the stream up, or is gone.
    Broken,
}

/// What [`Inbox::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Everything that had come.
    Data(Bytes),
    /// Nothing more will come.
    End(End),
}

/// What became of bytes that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// So many fitted in.
    Kept(usize),
    /// Nobody wants them.
    Dropped,
}

/// One stream's buffer; one task pushes, one takes.
#[derive(Debug)]
pub(super) struct Inbox {
    limit: usize,
    state: Mutex<State>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    data: BytesMut,
    end: Option<End>,
    unwanted: bool,
}

impl Inbox {
    /// An empty one that holds `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::default(),
            filled: Notify::new(),
            drained: Notify::new(),
        }
    }

    /// Adds as much of `bytes` as there is room for.
    pub(super) fn push(&self, bytes: &[u8]) -> Pushed {
        let mut state = self.lock();
        if state.unwanted || state.end.is_some() {
            return Pushed::Dropped;
        }
        let count = bytes.len().min(self.limit.saturating_sub(state.data.len()));
        state.data.extend_from_slice(&bytes[..count]);
        drop(state);
        self.filled.notify_one();
        Pushed::Kept(count)
    }

    /// Waits until [`Inbox::push`] would get rid of something.
    pub(super) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            {
                let state = self.lock();
                if state.unwanted || state.end.is_some() || state.data.len() < self.limit {
                    return;
                }
            }
            drained.await;
        }
    }

    /// No more will be pushed. What was pushed before can still be taken, unless the stream is broken.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() || end == End::Broken {
            state.end = Some(end);
        }
        if end == End::Broken {
            state.data = BytesMut::new();
        }
        drop(state);
        self.filled.notify_one();
        self.drained.notify_one();
    }

    /// Waits for what has been pushed since the last time. Dropping the future loses nothing.
    pub(super) async fn take(&self) -> Taken {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.lock();
                if !state.data.is_empty() {
                    let data = state.data.split().freeze();
                    drop(state);
                    self.drained.notify_one();
                    return Taken::Data(data);
                }
                if let Some(end) = state.end {
                    return Taken::End(end);
                }
            }
            filled.await;
        }
    }

    /// Nobody will take any more. Returns how many bytes are dropped by that.
    pub(super) fn discard(&self) -> usize {
        let mut state = self.lock();
        state.unwanted = true;
        let dropped = std::mem::take(&mut state.data).len();
        drop(state);
        self.drained.notify_one();
        dropped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can leave the buffer half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_holds_no_more_than_its_limit_and_loses_nothing() {
        let inbox = Arc::new(Inbox::new(10));
        let sender = Arc::clone(&inbox);
        let sent = tokio::spawn(async move {
            let bytes: Vec<u8> = (0..=255).collect();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                sender.room().await;
                let Pushed::Kept(count) = sender.push(rest) else {
                    panic!("dropped")
                };
                assert!(count <= 10);
                rest = &rest[count..];
            }
            sender.end(End::Finished);
        });
        let mut all = Vec::new();
        loop {
            match inbox.take().await {
                Taken::Data(data) => all.extend_from_slice(&data),
                Taken::End(end) => break assert_eq!(end, End::Finished),
            }
        }
        sent.await.unwrap();
        assert_eq!(all, (0..=255).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_broken_stream_tells_so_at_once_and_an_ended_one_at_its_end() {
        let inbox = Inbox::new(10);
        inbox.push(b"ab");
        inbox.end(End::Finished);
        assert_eq!(inbox.take().await, Taken::Data(Bytes::from_static(b"ab")));
        assert_eq!(inbox.take().await, Taken::End(End::Finished));
        let inbox = Inbox::new(10);
        inbox.push(b"ab");
        inbox.end(End::Broken);
        assert_eq!(inbox.take().await, Taken::End(End::Broken));
        assert_eq!(inbox.push(b"c"), Pushed::Dropped);
    }

    #[tokio::test]
    async fn what_nobody_wants_takes_no_room() {
        let inbox = Inbox::new(3);
        assert_eq!(inbox.push(b"abcdef"), Pushed::Kept(3));
        assert_eq!(inbox.discard(), 3);
        inbox.room().await;
        assert_eq!(inbox.push(b"def"), Pushed::Dropped);
    }
}
