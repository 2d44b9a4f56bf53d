//! An attachment: the ends that a caller has given for a container's standard streams.

use std::os::fd::OwnedFd;

use super::outbox::Outbox;
use super::poller::Token;
use crate::log::Stream;

/// With so many bytes waiting for a reader, beside what its pipe or socket holds, nothing more is read from the container.
const ENOUGH: usize = 1024 * 1024;

/// With so few the container goes on.
const FEW: usize = 256 * 1024;

/// With more an attachment is closed. Only a container that has ended, and is never held, can leave so much behind.
const MOST: usize = 2 * 1024 * 1024;

/// Where input for the container comes from.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) fd: OwnedFd,
    /// None: not read now, for the container hasn't taken what came before.
    pub(crate) token: Option<Token>,
}

/// Where a copy of one of the container's outputs goes.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) outbox: Outbox,
    pub(crate) token: Token,
    /// Whether the poller tells of room, as it must while something waits.
    pub(crate) awaits_room: bool,
    is_broken: bool,
    is_last: bool,
}

impl Sink {
    pub(crate) fn new(outbox: Outbox, token: Token) -> Self {
        Self {
            outbox,
            token,
            awaits_room: false,
            is_broken: false,
            is_last: false,
        }
    }

    fn offer(&mut self, data: &[u8]) {
        self.is_broken |= self.outbox.push(data).is_err();
    }

    /// There may be room, or nobody who reads.
    pub(crate) fn flush(&mut self, is_broken: bool) {
        self.is_broken |= is_broken || self.outbox.flush().is_err();
    }

    /// Whether it is to be closed.
    fn is_done(&self) -> bool {
        self.is_broken || (self.is_last && self.outbox.waiting() == 0)
    }
}

/// What of an attachment is still open.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    pub(crate) feed: Option<Feed>,
    pub(crate) stdout: Option<Sink>,
    pub(crate) stderr: Option<Sink>,
}

impl Attachment {
    /// The slot of a stream.
    pub(crate) fn sink(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Passes output on, as far as the reader takes it.
    pub(crate) fn offer(&mut self, stream: Stream, data: &[u8]) {
        if let Some(sink) = self.sink(stream) {
            sink.offer(data);
        }
    }

    /// Nothing more comes of this stream.
    pub(crate) fn end(&mut self, stream: Stream) {
        if let Some(sink) = self.sink(stream) {
            sink.is_last = true;
        }
    }

    /// Takes the sink out if it is to be closed.
    pub(crate) fn take_done(&mut self, stream: Stream) -> Option<Sink> {
        self.sink(stream).take_if(|sink| sink.is_done())
    }

    /// Whether a reader is too slow for what comes.
    pub(crate) fn is_too_slow(&self) -> bool {
        [&self.stdout, &self.stderr]
            .into_iter()
            .flatten()
            .any(|sink| sink.outbox.waiting() > MOST)
    }

    /// Whether a stream's reader is to catch up before more of it is read; `is_held` says that it is waited for
    /// already.
    pub(crate) fn lags(&mut self, stream: Stream, is_held: bool) -> bool {
        let bound = if is_held { FEW } else { ENOUGH };
        self.sink(stream)
            .as_ref()
            .is_some_and(|sink| sink.outbox.waiting() > bound)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.feed.is_none() && self.stdout.is_none() && self.stderr.is_none()
    }
}
