//! The bounded channel from the network to the decompressor.
//!
//! What a layer on its way takes of memory is mostly what waits in this channel and the next one ([`super::plain`]), so both
//! have few buffers of one size, used again. What the network brings is copied into them: its pieces are windows of
//! larger blocks, and one that waits keeps its whole block in memory, several times as much.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

use super::plain::{Gone, cut_off};
use crate::digest::{Digest, Hasher};

/// How many chunks wait for the decompressor.
const CHUNKS: usize = 4;
/// The most that a chunk holds.
const CHUNK: usize = 64 << 10;
/// How many bytes tell how a stream is compressed.
const START: usize = 6;

/// A part of the stream, or its end: a sender that just disappears must not look like one.
enum Message {
    Data(Vec<u8>),
    End,
}

/// The network's end.
pub(super) struct NetworkSender {
    sender: mpsc::Sender<Message>,
    used: mpsc::UnboundedReceiver<Vec<u8>>,
    filling: Vec<u8>,
}

/// The decompressor's end, hashing what passes.
pub(super) struct NetworkReader {
    receiver: mpsc::Receiver<Message>,
    used: mpsc::UnboundedSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    hasher: Hasher,
    ended: bool,
}

/// Makes both ends.
pub(super) fn channel() -> (NetworkSender, NetworkReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let (used_sender, used) = mpsc::unbounded_channel();
    let sender = NetworkSender {
        sender,
        used,
        filling: Vec::new(),
    };
    let reader = NetworkReader {
        receiver,
        used: used_sender,
        current: Vec::new(),
        position: 0,
        hasher: Hasher::default(),
        ended: false,
    };
    (sender, reader)
}

impl NetworkSender {
    /// Whether the decompressor has nothing left to read.
    pub(super) fn is_waited_for(&self) -> bool {
        self.sender.capacity() == CHUNKS
    }

    /// Sends bytes: in full chunks, or as few as there are where they are waited for.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            bytes = self.fill(bytes);
            if self.filling.len() == CHUNK || self.is_waited_for() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Sends bytes from a thread that may wait.
    pub(super) fn blocking_send(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            bytes = self.fill(bytes);
            let full = std::mem::take(&mut self.filling);
            self.sender.blocking_send(Message::Data(full)).map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Says that this was all.
    pub(super) async fn end(mut self) -> Result<(), Gone> {
        self.flush().await?;
        self.sender.send(Message::End).await.map_err(|_| Gone)
    }

    /// Says it from a thread that may wait.
    pub(super) fn blocking_end(self) -> Result<(), Gone> {
        self.sender.blocking_send(Message::End).map_err(|_| Gone)
    }

    /// Puts into the chunk what fits; gives back the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.filling.capacity() == 0 {
            self.filling = self.used.try_recv().unwrap_or_default();
            self.filling.clear();
            self.filling.reserve_exact(CHUNK);
        }
        let (part, rest) = bytes.split_at(bytes.len().min(CHUNK - self.filling.len()));
        self.filling.extend_from_slice(part);
        rest
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let full = std::mem::take(&mut self.filling);
        if full.is_empty() {
            return Ok(());
        }
        self.sender.send(Message::Data(full)).await.map_err(|_| Gone)
    }
}

impl NetworkReader {
    /// The first bytes of the stream, at least as many as tell its compression if it has so many; `None` if it was
    /// cut off before.
    pub(super) fn start(&mut self) -> Option<&[u8]> {
        let mut start = Vec::new();
        while start.len() < START {
            match self.fill() {
                Ok(true) => start.extend_from_slice(&std::mem::take(&mut self.current)),
                Ok(false) => break,
                Err(_) => return None,
            }
        }
        self.current = start;
        Some(&self.current)
    }

    /// Makes sure that there is something to read; `false` at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        while self.position == self.current.len() {
            self.position = 0;
            if !self.current.is_empty() {
                // A sender that has sent everything takes none back.
                let _ = self.used.send(std::mem::take(&mut self.current));
            }
            if self.ended {
                return Ok(false);
            }
            match self.receiver.blocking_recv() {
                Some(Message::Data(data)) => {
                    self.hasher.update(&data);
                    self.current = data;
                }
                Some(Message::End) => self.ended = true,
                None => return Err(cut_off()),
            }
        }
        Ok(true)
    }

    /// Reads the rest and gives back the digest of everything; `None` if the stream was cut off.
    pub(super) fn finish(mut self) -> Option<Digest> {
        loop {
            self.position = self.current.len();
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Some(self.hasher.finish()),
                Err(_) => return None,
            }
        }
    }
}

impl Read for NetworkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let left = &self.current[self.position..];
        let count = buffer.len().min(left.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.position += count;
        Ok(count)
    }
}

impl BufRead for NetworkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = self.current.len().min(self.position + count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_come_whole_and_in_order() {
        let (mut sender, mut reader) = channel();
        let sending = std::thread::spawn(move || {
            let whole: Vec<u8> = (0..=255).cycle().take(3 * CHUNK + 7).collect();
            for piece in whole.chunks(1000) {
                sender.blocking_send(piece).unwrap();
            }
            sender.blocking_end().unwrap();
            whole
        });
        assert_eq!(reader.start().map(<[u8]>::len), Some(1000));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        let whole = sending.join().unwrap();
        assert!(read == whole);
        assert_eq!(reader.finish(), Some(Digest::of(&whole)));
    }

    #[tokio::test]
    async fn what_is_waited_for_is_sent_at_once_and_what_is_not_in_full_chunks() {
        let (mut sender, mut reader) = channel();
        sender.send(b"abc").await.unwrap();
        assert!(!sender.is_waited_for());
        for _ in 0..2 {
            sender.send(&[b'd'; CHUNK / 2]).await.unwrap();
        }
        sender.send(b"e").await.unwrap();
        sender.end().await.unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut chunks = Vec::new();
            loop {
                let count = reader.fill_buf().unwrap().len();
                if count == 0 {
                    return chunks;
                }
                chunks.push(count);
                reader.consume(count);
            }
        });
        assert_eq!(reading.await.unwrap(), [3, CHUNK, 1]);
    }

    #[test]
    fn a_sender_that_disappears_is_no_end() {
        let (mut sender, mut reader) = channel();
        sender.blocking_send(b"ab").unwrap();
        drop(sender);
        assert!(reader.start().is_none());
        assert_eq!(reader.finish(), None);
    }
}
