//! What all tasks of one connection share: whether it still stands, and when something last passed over it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A connection's state; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    closed: Arc<watch::Sender<bool>>,
    moved: Arc<Mutex<Instant>>,
}

impl Link {
    /// A connection that stands.
    pub(super) fn new() -> Self {
        Self {
            closed: Arc::new(watch::Sender::new(false)),
            moved: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Some content passed, in whichever direction.
    pub(super) fn touch(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The connection is gone, or has to go.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits until the connection is gone.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives in `self`, so this can't fail.
        drop(closed.wait_for(|closed| *closed).await);
    }

    /// Waits until nothing has passed for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let until = *self.moved.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_silence_is_idle() {
        let link = Link::new();
        let begun = Instant::now();
        let toucher = link.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(7)).await;
            toucher.touch();
        });
        link.idle(Duration::from_secs(10)).await;
        assert_eq!(begun.elapsed().as_secs(), 17);
    }
}
