//! Input: from those attached to the container, no faster than it reads.
//!
//! ```text
//!   feed of an attachment ──read──▶ Input (what the container hasn't taken) ──write──▶ pipe, or terminal
//! ```
//!
//! While anything waits in an [`Input`] no feed is read, so that whoever sends too fast has to wait himself.

use nix::errno::Errno;
use nix::unistd::read;

use super::attachment::Feed;
use super::backend::Backend;
use super::event_loop::{Monitor, Source};
use super::note::note;
use super::outbox::Outbox;
use super::poller::{Interest, Token};

/// Bytes read from a feed at once, and the most that ever wait.
const FEED: usize = 16 * 1024;

/// The writing end of a container's standard input, or a copy of its terminal's master.
#[derive(Debug)]
pub(crate) struct Input {
    outbox: Outbox,
    /// Registered while something waits.
    token: Option<Token>,
    /// To be closed once nothing waits.
    is_last: bool,
}

impl Input {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            token: None,
            is_last: false,
        }
    }

    /// Whether more may be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_last
    }
}

/// What became of a feed that was readable.
enum Fed {
    Nothing,
    /// The container hasn't taken everything.
    Waits,
    /// The feed has ended.
    End,
    /// The container reads no more.
    Closed,
}

impl<B: Backend> Monitor<B> {
    /// Passes on what an attachment sends.
    pub(super) fn feed(&mut self, id: &str, number: u64) {
        match self.read_feed(id, number) {
            Fed::Nothing => {}
            Fed::Waits => {
                self.pause_feed(id, number);
                self.await_input(id);
            }
            Fed::End => self.end_feed(id, number),
            Fed::Closed => self.close_input(id),
        }
    }

    fn read_feed(&mut self, id: &str, number: u64) -> Fed {
        let Some(container) = self.containers.get_mut(id) else {
            return Fed::Nothing;
        };
        let attachment = container.attachments.get(&number);
        let Some(feed) = attachment.and_then(|a| a.feed.as_ref()) else {
            return Fed::Nothing;
        };
        let Some(input) = container.input.as_mut().filter(|input| input.is_open()) else {
            return Fed::End;
        };
        if input.outbox.waiting() > 0 {
            return Fed::Waits;
        }
        let buffer = &mut self.scratch.buffer()[..FEED];
        match read(&feed.fd, buffer) {
            Ok(0) => Fed::End,
            Ok(n) => match input.outbox.push(&buffer[..n]) {
                Ok(()) if input.outbox.waiting() > 0 => Fed::Waits,
                Ok(()) => Fed::Nothing,
                Err(_) => Fed::Closed,
            },
            Err(Errno::EAGAIN | Errno::EINTR) => Fed::Nothing,
            Err(_) => Fed::End,
        }
    }

    /// The container may take more, or nothing ever again.
    pub(super) fn flush_input(&mut self, id: &str) {
        let Some(input) = self.containers.get_mut(id).and_then(|c| c.input.as_mut()) else {
            return;
        };
        match input.outbox.flush() {
            Err(_) => return self.close_input(id),
            Ok(()) if input.outbox.waiting() > 0 => return,
            Ok(()) if input.is_last => return self.close_input(id),
            Ok(()) => {}
        }
        if let Some(token) = input.token.take() {
            self.poller.remove(&input.outbox);
            self.sources.remove(&token);
        }
        self.resume_feeds(id);
    }

    /// Has the poller tell when the container takes more.
    fn await_input(&mut self, id: &str) {
        let Some(input) = self.containers.get_mut(id).and_then(|c| c.input.as_mut()) else {
            return;
        };
        if input.token.is_some() {
            return;
        }
        match self.poller.add(&input.outbox, Interest::EPOLLOUT) {
            Ok(token) => {
                input.token = Some(token);
                self.sources.insert(token, Source::Input(id.to_owned()));
            }
            Err(error) => {
                note(format_args!("container {id}: {error}; its input is closed"));
                self.close_input(id);
            }
        }
    }

    /// Taken out of the poller altogether, for it would tell of a sender that has gone again and again.
    fn pause_feed(&mut self, id: &str, number: u64) {
        let attachment = self
            .containers
            .get_mut(id)
            .and_then(|c| c.attachments.get_mut(&number));
        if let Some(Feed { fd, token }) = attachment.and_then(|a| a.feed.as_mut())
            && let Some(token) = token.take()
        {
            self.poller.remove(&*fd);
            self.sources.remove(&token);
        }
    }

    fn resume_feeds(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let mut lost = Vec::new();
        for (number, attachment) in &mut container.attachments {
            let Some(feed) = attachment.feed.as_mut().filter(|feed| feed.token.is_none()) else {
                continue;
            };
            match self.poller.add(&feed.fd, Interest::EPOLLIN) {
                Ok(token) => {
                    feed.token = Some(token);
                    self.sources.insert(token, Source::Feed(id.to_owned(), *number));
                }
                Err(error) => {
                    note(format_args!(
                        "container {id}: {error}; an attachment's input is closed"
                    ));
                    lost.push(*number);
                }
            }
        }
        for number in lost {
            self.end_feed(id, number);
        }
    }

    /// An attachment sends no more. Where that is so for the first one it is the end of the container's input.
    pub(super) fn end_feed(&mut self, id: &str, number: u64) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let attachment = container.attachments.get_mut(&number);
        let Some(feed) = attachment.and_then(|a| a.feed.take()) else {
            return;
        };
        self.drop_feed(&feed);
        self.forget_if_empty(id, number);
        let Some(container) = self.containers.get_mut(id).filter(|c| c.closes_stdin()) else {
            return;
        };
        match &mut container.input {
            Some(input) if input.outbox.waiting() > 0 => input.is_last = true,
            Some(_) => self.close_input(id),
            None => {}
        }
    }

    /// Closes a container's input, and every feed of it.
    pub(super) fn close_input(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if let Some(input) = container.input.take() {
            self.poller.remove(&input.outbox);
            if let Some(token) = input.token {
                self.sources.remove(&token);
            }
        }
        let numbers: Vec<u64> = container.attachments.keys().copied().collect();
        for number in numbers {
            self.end_feed(id, number);
        }
    }

    /// Takes a feed out of the poller.
    pub(super) fn drop_feed(&mut self, feed: &Feed) {
        if let Some(token) = feed.token {
            self.poller.remove(&feed.fd);
            self.sources.remove(&token);
        }
    }
}
