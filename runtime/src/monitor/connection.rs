//! One daemon's connection: frames and descriptors in, frames out, and never a wait for the other side.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use crate::protocol::{Decoder, MAX_FDS, RemoteError, RequestFrame, parse_request};
use crate::sys::fd::{recv_with_fds, send_with_fds};

/// Bytes that may wait for a slow daemon; with more it loses the connection, and learns the rest by `State`.
const MOST_UNSENT: usize = 1 << 20;

/// Descriptors that may have arrived before their frame.
const MOST_FDS: usize = 4 * MAX_FDS;

/// Why a connection is to be closed.
#[derive(Debug)]
pub(crate) enum Gone {
    /// The other side has closed it.
    Closed,
    /// It broke, or what came is no frame, or too much waits to be sent.
    Broken(String),
}

/// What has arrived.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request(Box<RequestFrame>, Vec<OwnedFd>),
    /// A request that can't be understood, but answered.
    Refused(u64, RemoteError),
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    fds: VecDeque<OwnedFd>,
    unsent: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            decoder: Decoder::default(),
            fds: VecDeque::new(),
            unsent: Vec::new(),
        })
    }

    /// Reads once what is there.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Gone> {
        match recv_with_fds(self.stream.as_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok((0, _)) => Err(Gone::Closed),
            Ok((n, fds)) => {
                self.decoder.push(&buffer[..n]);
                self.fds.extend(fds);
                if self.fds.len() > MOST_FDS {
                    return Err(Gone::Broken("descriptors that belong to no request".to_owned()));
                }
                Ok(())
            }
            Err(Errno::EAGAIN) => Ok(()),
            Err(Errno::ECONNRESET) => Err(Gone::Closed),
            Err(errno) => Err(Gone::Broken(format!("receive: {errno}"))),
        }
    }

    /// The next whole request.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Gone> {
        let broken = |why: &dyn std::fmt::Display| Gone::Broken(why.to_string());
        let Some(body) = self.decoder.next_frame().map_err(|e| broken(&e))? else {
            return Ok(None);
        };
        match parse_request(body).map_err(|e| broken(&e))? {
            Ok(frame) => {
                let fds = self.take_fds(frame.fds)?;
                Ok(Some(Incoming::Request(Box::new(frame), fds)))
            }
            Err((head, error)) => {
                drop(self.take_fds(head.fds)?);
                Ok(Some(Incoming::Refused(head.seq, error)))
            }
        }
    }

    fn take_fds(&mut self, count: u32) -> Result<Vec<OwnedFd>, Gone> {
        let count = count as usize;
        if count > self.fds.len() {
            return Err(Gone::Broken(format!(
                "{count} descriptors announced, {} came",
                self.fds.len()
            )));
        }
        Ok(self.fds.drain(..count).collect())
    }

    /// Sends frames, or keeps what the socket doesn't take now.
    pub(crate) fn send(&mut self, frames: &[u8]) -> Result<(), Gone> {
        if self.unsent.len() + frames.len() > MOST_UNSENT {
            return Err(Gone::Broken("the daemon doesn't read".to_owned()));
        }
        self.unsent.extend_from_slice(frames);
        self.flush()
    }

    /// Sends what was kept.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        let mut sent = 0;
        let outcome = loop {
            if sent == self.unsent.len() {
                break Ok(());
            }
            match send_with_fds(self.stream.as_fd(), &self.unsent[sent..], &[]) {
                Ok(n) => sent += n,
                Err(Errno::EAGAIN) => break Ok(()),
                Err(Errno::EPIPE | Errno::ECONNRESET) => break Err(Gone::Closed),
                Err(errno) => break Err(Gone::Broken(format!("send: {errno}"))),
            }
        };
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        outcome
    }

    /// Whether something waits for the socket to take it.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
