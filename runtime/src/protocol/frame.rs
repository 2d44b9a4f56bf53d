//! Framing: a little-endian `u32` length, then that many bytes of JSON.

use std::ops::Range;

use serde::Serialize;

/// Bytes of the length.
pub const HEADER: usize = 4;

/// The longest body of a frame, in bytes.
pub const MAX_FRAME: usize = 16 << 20;

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("frame of {len} bytes is longer than {MAX_FRAME}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// It can't be expressed in JSON, as a path that is not UTF-8.
    #[error("encode message: {0}")]
    Encode(#[source] serde_json::Error),
}

/// Appends `message` as a frame to `out`; on an error `out` is as it was.
///
/// # Errors
/// The message is too long, or can't be expressed in JSON.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let written = serde_json::to_writer(&mut *out, message).map_err(FrameError::Encode);
    let len = out.len() - start - HEADER;
    let checked = written.and_then(|()| checked_length(len));
    match checked {
        Ok(len) => {
            out[start..start + HEADER].copy_from_slice(&len.to_le_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn checked_length(len: usize) -> Result<u32, FrameError> {
    u32::try_from(len)
        .ok()
        .filter(|_| len <= MAX_FRAME)
        .ok_or(FrameError::TooLong { len })
}

/// Puts a byte stream together into frames, however it was cut.
///
/// It holds memory only while a frame is incomplete, and never more than has arrived.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// The body of the next whole frame.
    ///
    /// # Errors
    /// A frame claims more than [`MAX_FRAME`]; the stream is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        match self.locate()? {
            Some(body) => {
                self.read = body.end;
                Ok(Some(&self.buffer[body]))
            }
            None => {
                self.compact();
                Ok(None)
            }
        }
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    fn locate(&self) -> Result<Option<Range<usize>>, FrameError> {
        let Some((header, rest)) = self.buffer[self.read..].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::TooLong { len });
        }
        let body = self.read + HEADER;
        Ok((rest.len() >= len).then_some(body..body + len))
    }

    /// Gives back what has been read; an empty decoder holds no memory.
    fn compact(&mut self) {
        if self.read == self.buffer.len() {
            self.buffer = Vec::new();
        } else if self.read > 0 {
            self.buffer.drain(..self.read);
        }
        self.read = 0;
    }
}
