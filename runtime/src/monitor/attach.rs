//! Attaching to a container, and passing its output on.
//!
//! What is read from a container goes to each attachment ([`Attachment::offer`]) and into the log. A reader who doesn't
//! keep up costs memory up to a bound, then a bounded time (`hold.rs`), and then the attachment.

use std::os::fd::{AsFd, OwnedFd};

use super::attachment::{Attachment, Feed, Sink};
use super::backend::Backend;
use super::event_loop::{Monitor, Source};
use super::note::note;
use super::outbox::Outbox;
use super::poller::Interest;
use super::requests::{Answer, find, remote, wrong_state};
use super::state::State;
use super::stdio::make_nonblocking;
use crate::error::{Error, Result};
use crate::log::Stream;
use crate::protocol::{ErrorKind, RemoteError, Reply};

/// Attachments to one container at a time.
const MOST_ATTACHMENTS: usize = 64;

/// Both outputs.
pub(super) const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl<B: Backend> Monitor<B> {
    /// Takes on an attachment; `wanted` says for which streams a descriptor has come.
    pub(super) fn attach(&mut self, id: &str, wanted: [bool; 3], fds: Vec<OwnedFd>) -> Answer {
        let count = wanted.iter().filter(|wanted| **wanted).count();
        if count == 0 || count != fds.len() {
            let text = format!(
                "attach to {count} streams needs as many file descriptors, {} came",
                fds.len()
            );
            return Err(RemoteError::new(ErrorKind::InvalidArgument, text));
        }
        let container = find(&mut self.containers, id)?;
        if !matches!(container.state, State::Created | State::Running { .. }) {
            return Err(wrong_state("attach to", container));
        }
        if container.attachments.len() >= MOST_ATTACHMENTS {
            let text = format!("cannot attach to container {id}: {MOST_ATTACHMENTS} are attached");
            return Err(RemoteError::new(ErrorKind::InvalidState, text));
        }
        let mut fds = fds.into_iter();
        let stdio = wanted.map(|wanted| if wanted { fds.next() } else { None });
        self.last_attachment += 1;
        let number = self.last_attachment;
        container.attachments.insert(number, Attachment::default());
        let outcome = self.add_streams(id, number, stdio);
        if outcome.is_err() {
            self.drop_streams(id, number);
        }
        self.forget_if_empty(id, number);
        outcome.map_err(remote)?;
        Ok(Reply::Done {})
    }

    /// Registers those descriptors whose stream the container has; the others are closed.
    fn add_streams(&mut self, id: &str, number: u64, stdio: [Option<OwnedFd>; 3]) -> Result<()> {
        let [stdin, stdout, stderr] = stdio;
        for (stream, fd) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            if let Some(fd) = fd {
                self.add_sink(id, number, stream, fd)?;
            }
        }
        match stdin {
            Some(fd) => self.add_feed(id, number, fd),
            None => Ok(()),
        }
    }

    fn add_sink(&mut self, id: &str, number: u64, stream: Stream, fd: OwnedFd) -> Result<()> {
        let Some(container) = self.containers.get_mut(id) else {
            return Ok(());
        };
        let is_open = container.source(stream).is_some();
        let Some(attachment) = container.attachments.get_mut(&number).filter(|_| is_open) else {
            return Ok(());
        };
        let outbox = Outbox::new(fd)?;
        // without any interest: it still tells when nobody reads any more
        let token = self
            .poller
            .add(&outbox, Interest::empty())
            .map_err(|e| not_pollable(e, stream_name(stream)))?;
        self.sources
            .insert(token, Source::Sink(id.to_owned(), number, stream));
        *attachment.sink(stream) = Some(Sink::new(outbox, token));
        Ok(())
    }

    fn add_feed(&mut self, id: &str, number: u64, fd: OwnedFd) -> Result<()> {
        let Some(container) = self.containers.get_mut(id) else {
            return Ok(());
        };
        let is_open = container.input.as_ref().is_some_and(super::input::Input::is_open);
        let Some(attachment) = container.attachments.get_mut(&number).filter(|_| is_open) else {
            return Ok(());
        };
        make_nonblocking(&fd)?;
        let token = self
            .poller
            .add(&fd, Interest::EPOLLIN)
            .map_err(|e| not_pollable(e, "stdin"))?;
        self.sources.insert(token, Source::Feed(id.to_owned(), number));
        attachment.feed = Some(Feed {
            fd,
            token: Some(token),
        });
        Ok(())
    }

    /// A reader takes more, or has gone.
    pub(super) fn flush_sink(&mut self, id: &str, number: u64, stream: Stream, events: Interest) {
        let attachment = self
            .containers
            .get_mut(id)
            .and_then(|c| c.attachments.get_mut(&number));
        if let Some(sink) = attachment.and_then(|a| a.sink(stream).as_mut()) {
            sink.flush(events.intersects(Interest::EPOLLERR | Interest::EPOLLHUP));
            self.settle(id, number);
        }
    }

    /// After output was offered: closes what is broken or too slow, and waits for room where something waits.
    pub(super) fn settle_attachments(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let numbers: Vec<u64> = container.attachments.keys().copied().collect();
        for number in numbers {
            self.settle(id, number);
        }
    }

    fn settle(&mut self, id: &str, number: u64) {
        let Some(attachment) = self
            .containers
            .get_mut(id)
            .and_then(|c| c.attachments.get_mut(&number))
        else {
            return;
        };
        let mut is_lost = attachment.is_too_slow();
        if is_lost {
            note(format_args!(
                "container {id}: an attachment reads too slowly and is closed"
            ));
        }
        for stream in STREAMS {
            if let Some(sink) = attachment.take_done(stream) {
                self.poller.remove(&sink.outbox);
                self.sources.remove(&sink.token);
            }
            let Some(sink) = attachment.sink(stream) else {
                continue;
            };
            let waits = sink.outbox.waiting() > 0;
            if waits != sink.awaits_room {
                let interest = if waits {
                    Interest::EPOLLOUT
                } else {
                    Interest::empty()
                };
                is_lost |= self.poller.change(&sink.outbox, sink.token, interest).is_err();
                sink.awaits_room = waits;
            }
        }
        if is_lost {
            self.drop_streams(id, number);
        }
        self.forget_if_empty(id, number);
        self.hold_or_release(id);
    }

    /// An output of the container has ended, and what waits is the last of it.
    pub(super) fn end_sinks(&mut self, id: &str, stream: Stream) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        for attachment in container.attachments.values_mut() {
            attachment.end(stream);
        }
        self.settle_attachments(id);
    }

    /// Closes all ends of an attachment.
    pub(super) fn drop_streams(&mut self, id: &str, number: u64) {
        let Some(attachment) = self
            .containers
            .get_mut(id)
            .and_then(|c| c.attachments.get_mut(&number))
        else {
            return;
        };
        for sink in STREAMS
            .into_iter()
            .filter_map(|stream| attachment.sink(stream).take())
        {
            self.poller.remove(&sink.outbox);
            self.sources.remove(&sink.token);
        }
        self.end_feed(id, number);
    }

    /// Closes every attachment of a container, whatever still waits for its readers.
    pub(super) fn drop_attachments(&mut self, id: &str) {
        self.close_input(id);
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let numbers: Vec<u64> = container.attachments.keys().copied().collect();
        for number in numbers {
            self.drop_streams(id, number);
            self.forget_if_empty(id, number);
        }
    }

    pub(super) fn forget_if_empty(&mut self, id: &str, number: u64) {
        if let Some(container) = self.containers.get_mut(id)
            && container
                .attachments
                .get(&number)
                .is_some_and(Attachment::is_empty)
        {
            container.attachments.remove(&number);
        }
    }

    /// Sets the size of a container's terminal.
    pub(super) fn resize(&mut self, id: &str, width: u16, height: u16) -> Answer {
        let container = find(&mut self.containers, id)?;
        let Some(terminal) = container.stdout.as_ref().filter(|_| container.has_terminal()) else {
            let text = format!("container {id} has no terminal");
            return Err(RemoteError::new(ErrorKind::InvalidState, text));
        };
        crate::terminal::resize(terminal.output.as_fd(), width, height).map_err(remote)?;
        Ok(Reply::Done {})
    }
}

fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// EPERM is how epoll says that there is nothing to wait for.
fn not_pollable(error: Error, field: &str) -> Error {
    match error.errno() {
        Some(nix::errno::Errno::EPERM) => Error::invalid(field, "is no pipe, socket or terminal"),
        _ => error,
    }
}
