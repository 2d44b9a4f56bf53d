//! One listener's place in the ring.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Event, Events};
use crate::error::{Error, Result};

/// A listener.
#[derive(Debug)]
pub struct Subscription<'a> {
    events: &'a Events,
    news: watch::Receiver<()>,
    place: i64,
}

impl<'a> Subscription<'a> {
    pub(super) fn new(events: &'a Events, news: watch::Receiver<()>, place: i64) -> Self {
        Self { events, news, place }
    }

    /// The time of the last event that the listener has had.
    pub fn place(&self) -> i64 {
        self.place
    }

    /// The next event, as soon as there is one; None once the daemon ends.
    ///
    /// # Errors
    /// [`Error::SlowListener`] where it is no longer kept.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>> {
        loop {
            // Before the look: what comes between the look and the wait is news then.
            self.news.mark_unchanged();
            {
                let ring = self.events.lock();
                if self.place < ring.forgotten {
                    return Err(Error::SlowListener);
                }
                let at = ring
                    .events
                    .partition_point(|event| event.created_at <= self.place);
                if let Some(event) = ring.events.get(at) {
                    self.place = event.created_at;
                    return Ok(Some(Arc::clone(event)));
                }
                if ring.is_closed {
                    return Ok(None);
                }
            }
            // The sender lives in `events`.
            drop(self.news.changed().await);
        }
    }
}
