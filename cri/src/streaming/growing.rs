//! Reading in pieces that get larger where much flows: what a piece costs is mostly that somebody has to be woken for it.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The largest piece, in bytes.
pub(super) const LARGEST: usize = 256 << 10;
/// The first piece's most, in bytes.
const FIRST: usize = 16 << 10;

/// A buffer that grows when it was filled.
#[derive(Debug)]
pub(super) struct Growing {
    buffer: BytesMut,
    size: usize,
}

impl Growing {
    /// Takes no memory before the first read.
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            size: FIRST,
        }
    }

    /// Reads what there is, and waits for it; empty at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The reader's.
    pub(super) async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
        self.buffer.reserve(self.size);
        let mut room = bytes::BufMut::limit(&mut self.buffer, self.size);
        let count = from.read_buf(&mut room).await?;
        if count == self.size {
            self.size = (self.size * 4).min(LARGEST);
        }
        Ok(self.buffer.split().freeze())
    }

    /// Whether a piece was as large as it could be.
    pub(super) fn has_grown(&self) -> bool {
        self.size > FIRST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_grow_as_long_as_they_are_full() {
        let text: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut from, mut growing, mut all, mut sizes) = (&text[..], Growing::new(), Vec::new(), Vec::new());
        loop {
            let piece = growing.read(&mut from).await.unwrap();
            if piece.is_empty() {
                break;
            }
            sizes.push(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, text);
        assert_eq!(sizes[..4], [FIRST, 4 * FIRST, LARGEST, LARGEST]);
    }

    #[tokio::test]
    async fn small_pieces_stay_small() {
        let (mut growing, mut from) = (Growing::new(), &b"abc"[..]);
        assert_eq!(growing.read(&mut from).await.unwrap(), "abc");
        assert!(!growing.has_grown());
        assert!(growing.read(&mut from).await.unwrap().is_empty());
    }
}
