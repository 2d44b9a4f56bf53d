//! The bounded channel from the decompressor to the unpacker.
//!
//! An end that just disappears (a cancelled pull, a failed neighbour) must not look like the end of the stream, so
//! the end is a message of its own.

use std::io::{self, Read};
use std::sync::mpsc as sync;

use crate::digest::{Digest, Hasher};

/// How many chunks wait for the unpacker.
const CHUNKS: usize = 2;
/// The size of a chunk.
const CHUNK: usize = 128 << 10;

/// The sender is gone without having sent the end.
pub(super) fn cut_off() -> io::Error {
    io::Error::other("the stream was cut off")
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

/// Whoever reads is gone: it has found something wrong.
#[derive(Debug)]
pub(super) struct Gone;

/// Makes a channel of plain bytes whose buffers are used again.
pub(super) fn channel() -> (PlainSender, PlainReader) {
    let (sender, receiver) = sync::sync_channel(CHUNKS);
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
            let mut buffer = self.used.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
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
