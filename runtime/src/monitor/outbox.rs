//! Bytes on their way to somebody who takes them when he likes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::write;

use super::stdio::make_nonblocking;
use crate::error::Result;

/// A descriptor to write to, and what it hasn't taken yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    fd: OwnedFd,
    waiting: Vec<u8>,
    /// How much of `waiting` was taken already: moving the rest up each time would cost more than the writing.
    taken: usize,
}

impl Outbox {
    /// Takes over a descriptor and makes it non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        make_nonblocking(&fd)?;
        Ok(Self {
            fd,
            waiting: Vec::new(),
            taken: 0,
        })
    }

    /// Writes what is taken now and keeps the rest.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(crate) fn push(&mut self, data: &[u8]) -> std::result::Result<(), Errno> {
        if self.waiting() > 0 {
            self.flush()?;
        }
        let sent = if self.waiting() == 0 { self.write(data)? } else { 0 };
        if sent < data.len() && self.taken > self.waiting() {
            self.waiting.drain(..self.taken);
            self.taken = 0;
        }
        self.waiting.extend_from_slice(&data[sent..]);
        Ok(())
    }

    /// Writes what was kept.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(crate) fn flush(&mut self) -> std::result::Result<(), Errno> {
        self.taken += self.write(&self.waiting[self.taken..])?;
        if self.waiting() == 0 {
            self.waiting = Vec::new();
            self.taken = 0;
        }
        Ok(())
    }

    /// Bytes that are kept.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() - self.taken
    }

    fn write(&self, data: &[u8]) -> std::result::Result<usize, Errno> {
        let mut sent = 0;
        while sent < data.len() {
            match write(&self.fd, &data[sent..]) {
                Ok(n) => sent += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(sent)
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn everything_arrives_in_order_however_slowly_it_is_read() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut outbox = Outbox::new(writer.into()).unwrap();
        let data: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        for piece in data.chunks(50_000) {
            outbox.push(piece).unwrap();
        }
        assert!(outbox.waiting() > 0, "a pipe doesn't hold that much");
        let mut read = Vec::new();
        let mut buffer = [0; 7777];
        while read.len() < data.len() {
            let n = reader.read(&mut buffer).unwrap();
            read.extend_from_slice(&buffer[..n]);
            outbox.flush().unwrap();
        }
        assert!(read == data && outbox.waiting() == 0);
        drop(reader);
        assert_eq!(outbox.push(b"x"), Err(Errno::EPIPE));
    }
}
