//! Bounded channels of bytes between the network, the decompressor and the unpacker.
//!
//! An end that just disappears (a cancelled pull, a failed neighbour) must not look like the end of the stream, so
//! the end is a message of its own.

use std::io::{self, Read};
use std::sync::mpsc as sync;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::digest::{Digest, Hasher};

/// How many chunks from the network wait for the decompressor.
pub(super) const NETWORK_CHUNKS: usize = 4;
/// How many decompressed chunks wait for the unpacker.
const PLAIN_CHUNKS: usize = 3;
/// The size of a decompressed chunk.
const PLAIN_CHUNK: usize = 256 << 10;

/// How many bytes tell how a stream is compressed.
const START: usize = 6;

/// A part of a stream, or its end.
pub(super) enum Message {
    Data(Bytes),
    End,
}

/// The blocking end of the network's channel, hashing what passes.
pub(super) struct NetworkReader {
    receiver: mpsc::Receiver<Message>,
    current: Bytes,
    hasher: Hasher,
    ended: bool,
}

impl NetworkReader {
    pub(super) fn new(receiver: mpsc::Receiver<Message>) -> NetworkReader {
        NetworkReader {
            receiver,
            current: Bytes::new(),
            hasher: Hasher::default(),
            ended: false,
        }
    }

    /// The first bytes of the stream, at least as many as tell its compression if it has so many; `None` if it was
    /// cut off before.
    pub(super) fn start(&mut self) -> Option<Bytes> {
        let mut start = BytesMut::new();
        while start.len() < START {
            match self.fill() {
                Ok(true) => start.extend_from_slice(&std::mem::take(&mut self.current)),
                Ok(false) => break,
                Err(_) => return None,
            }
        }
        self.current = start.freeze();
        Some(self.current.clone())
    }

    /// Makes sure that there is something to read; `false` at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        while self.current.is_empty() {
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
            self.current = Bytes::new();
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Some(self.hasher.finish()),
                Err(_) => return None,
            }
        }
    }
}

/// The sender is gone without having sent the end.
fn cut_off() -> io::Error {
    io::Error::other("the stream was cut off")
}

impl Read for NetworkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl io::BufRead for NetworkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}

enum Plain {
    Data(Vec<u8>, usize),
    End,
}

/// The decompressor's end of the second channel.
pub(super) struct PlainSender {
    sender: sync::SyncSender<Plain>,
    used: sync::Receiver<Vec<u8>>,
}

/// The unpacker's end, hashing what passes.
pub(super) struct PlainReader {
    receiver: sync::Receiver<Plain>,
    used: sync::Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    length: usize,
    hasher: Hasher,
    ended: bool,
}

/// The unpacker is gone: it has found something wrong.
#[derive(Debug)]
pub(super) struct Gone;

/// Makes a channel of plain bytes whose buffers are used again.
pub(super) fn plain() -> (PlainSender, PlainReader) {
    let (sender, receiver) = sync::sync_channel(PLAIN_CHUNKS);
    let (used_sender, used) = sync::channel();
    let reader = PlainReader {
        receiver,
        used: used_sender,
        current: Vec::new(),
        position: 0,
        length: 0,
        hasher: Hasher::default(),
        ended: false,
    };
    (PlainSender { sender, used }, reader)
}

impl PlainSender {
    /// Sends everything that `from` yields. `Ok(Err(_))` is an error of `from`.
    pub(super) fn send_all(self, from: &mut impl Read) -> Result<io::Result<()>, Gone> {
        loop {
            let mut buffer = self.used.try_recv().unwrap_or_else(|_| vec![0; PLAIN_CHUNK]);
            let mut length = 0;
            while length < buffer.len() {
                match from.read(&mut buffer[length..]) {
                    Ok(0) => break,
                    Ok(count) => length += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
            let last = length < buffer.len();
            if length > 0 {
                self.sender.send(Plain::Data(buffer, length)).map_err(|_| Gone)?;
            }
            if last {
                self.sender.send(Plain::End).map_err(|_| Gone)?;
                return Ok(Ok(()));
            }
        }
    }
}

impl PlainReader {
    fn fill(&mut self) -> io::Result<bool> {
        while self.position == self.length {
            if self.ended {
                return Ok(false);
            }
            match self.receiver.recv() {
                Ok(Plain::Data(data, length)) => {
                    self.hasher.update(&data[..length]);
                    let used = std::mem::replace(&mut self.current, data);
                    (self.position, self.length) = (0, length);
                    if !used.is_empty() {
                        let _ = self.used.send(used);
                    }
                }
                Ok(Plain::End) => self.ended = true,
                Err(sync::RecvError) => return Err(cut_off()),
            }
        }
        Ok(true)
    }

    /// The digest of everything, once the end was read.
    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl Read for PlainReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let count = buffer.len().min(self.length - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}
