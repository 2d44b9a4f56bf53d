//! A blob in one stream, or, where the network is what a pull waits for, in several parts at once.
//!
//! ```text
//! |—— one stream ——————|—— piece ——|—— piece ——|—— piece ——|…
//!                      ^ split here; the pieces are fetched ahead and handed on in order
//! ```
//!
//! One connection is the best there is while unpacking is slower than the network: a second one would only fill
//! memory. So a blob is split only after its reader was waiting for bytes most of the time, and if its host gives
//! parts. All pulls together hold at most [`PIECES`] pieces; where there is none left, the part is streamed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::blob::BlobStream;
use super::session::Session;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// How many pieces all blobs together have in memory. Each layer has a connection of its own besides.
pub(super) const PIECES: usize = 3;
/// The size of a piece.
const PIECE: u64 = 2 << 20;
/// How many pieces of one blob are fetched ahead.
const AHEAD: usize = 3;
/// So many bytes must have come while the reader waited, and more than came while it did not.
const STARVED: u64 = 4 << 20;
/// What is smaller than this is not worth more connections.
const WORTH: u64 = 4 * PIECE;

/// See the module's text.
pub(crate) struct BlobReader {
    stream: BlobStream,
    /// Bytes that came while the reader waited, less those that came while it did not.
    starved: i64,
    /// Where the parts begin that are not asked for yet, once the blob is split.
    next: Option<u64>,
    ahead: VecDeque<Piece>,
    /// The piece that was handed on last: in use until the next one is asked for.
    in_use: Option<Piece>,
}

struct Piece {
    task: JoinHandle<Result<Bytes>>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl BlobReader {
    /// See [`BlobStream::new`].
    pub(crate) fn new(session: Arc<Session>, digest: Digest, size: u64, elsewhere: &[String]) -> BlobReader {
        BlobReader {
            stream: BlobStream::new(session, digest, size, elsewhere),
            starved: 0,
            next: None,
            ahead: VecDeque::new(),
            in_use: None,
        }
    }

    /// The next bytes; `None` once all of them have come. `waiting` says, once they are
    /// here, whether the reader had nothing left to do.
    pub(crate) async fn next(&mut self, waiting: impl Fn() -> bool) -> Result<Option<Bytes>> {
        self.in_use = None;
        loop {
            self.fetch_ahead();
            if let Some(chunk) = self.stream.next().await? {
                self.judge(waiting(), chunk.len() as u64);
                return Ok(Some(chunk));
            }
            if let Some(mut piece) = self.ahead.pop_front() {
                let ended = (&mut piece.task).await;
                let bytes = ended.map_err(|_| Error::Worker {
                    what: "fetching a part of a layer",
                })??;
                self.in_use = Some(piece);
                return Ok(Some(bytes));
            }
            match self.next {
                // No piece could be had in advance: this part comes as a stream.
                Some(begin) if begin < self.stream.size() => {
                    let end = (begin + PIECE).min(self.stream.size());
                    self.stream = self.stream.part(begin, end);
                    self.next = Some(end);
                }
                _ => return Ok(None),
            }
        }
    }

    fn judge(&mut self, waiting: bool, length: u64) {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.starved = if waiting {
            self.starved.saturating_add(length)
        } else {
            (self.starved - length).max(0)
        };
        let left = self.stream.size().saturating_sub(self.stream.received());
        let starved = u64::try_from(self.starved).is_ok_and(|starved| starved >= STARVED);
        if self.next.is_none() && starved && left >= WORTH && self.stream.has_ranges() {
            let end = self.stream.received() + PIECE;
            self.stream.end_at(end);
            self.next = Some(end);
        }
    }

    /// Begins to fetch the next pieces, as far as there is room.
    fn fetch_ahead(&mut self) {
        let Some(mut begin) = self.next else { return };
        while begin < self.stream.size() && self.ahead.len() < AHEAD {
            let Ok(slot) = Arc::clone(self.stream.pieces()).try_acquire_owned() else {
                break;
            };
            let end = (begin + PIECE).min(self.stream.size());
            let part = self.stream.part(begin, end);
            self.ahead.push_back(Piece {
                task: tokio::spawn(whole(part, end - begin)),
                _slot: slot,
            });
            begin = end;
        }
        self.next = Some(begin);
    }
}

/// Copies what comes: each chunk is a window of a larger block, and would keep all of that in memory.
async fn whole(mut part: BlobStream, size: u64) -> Result<Bytes> {
    let mut piece = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(chunk) = part.next().await? {
        piece.extend_from_slice(&chunk);
    }
    Ok(piece.into())
}
