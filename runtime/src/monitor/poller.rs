//! epoll(7) with tokens that are never used twice, so that a late event can't reach the wrong object.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::{Context, Result};

/// What one is waiting for.
pub(crate) type Interest = EpollFlags;

/// Events handled between two waits.
const BATCH: usize = 32;

/// Names a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(u64);

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) events: Interest,
}

#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
    last: u64,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).call("epoll_create1")?,
            last: 0,
        })
    }

    pub(crate) fn add(&mut self, fd: impl AsFd, interest: Interest) -> Result<Token> {
        self.last += 1;
        self.epoll
            .add(fd, EpollEvent::new(interest, self.last))
            .call("epoll_ctl add")?;
        Ok(Token(self.last))
    }

    pub(crate) fn change(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<()> {
        self.epoll
            .modify(fd, &mut EpollEvent::new(interest, token.0))
            .call("epoll_ctl modify")
    }

    /// Must precede the close: a copy of the descriptor in a forked child would keep the registration alive.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // It fails only for what isn't registered.
        let _ = self.epoll.delete(fd);
    }

    /// Waits for something to happen, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<Vec<Ready>> {
        let mut events = [EpollEvent::empty(); BATCH];
        let timeout = deadline.map_or(EpollTimeout::NONE, |at| {
            // rounded up, or the last millisecond would be spent spinning
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
        });
        let n = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            other => other.call("epoll_wait")?,
        };
        Ok(events[..n]
            .iter()
            .map(|e| Ready {
                token: Token(e.data()),
                events: e.events(),
            })
            .collect())
    }
}
