//! What containers have written, counted in the background.
//!
//! A count is due every ten seconds while somebody asks, and seldom enough that counting takes a twentieth of
//! one core at most. Whoever asks gets the last count at once.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pintle_images::{Store, usage_of};

use crate::container::Container;
use crate::error::{IoContext as _, Result};

/// How old a count may be before it is made anew.
const INTERVAL: Duration = Duration::from_secs(10);

/// A count is not made anew before this many times what the last one took.
const COST: u32 = 20;

/// What a writable layer held when it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerUsage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
    /// Nanoseconds since the epoch.
    pub counted_at: i64,
}

/// The counts of one container.
#[derive(Debug, Default)]
pub struct LayerMeter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<LayerUsage>,
    due: Option<Instant>,
    is_queued: bool,
}

impl LayerMeter {
    /// The last count.
    pub fn last(&self) -> Option<LayerUsage> {
        self.lock().last
    }

    /// Whether a count has to be queued now; it counts as queued then.
    fn take_turn(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let turn = !state.is_queued && state.due.is_none_or(|due| due <= now);
        state.is_queued |= turn;
        turn
    }

    fn counted(&self, usage: Option<LayerUsage>, took: Duration) {
        let mut state = self.lock();
        state.is_queued = false;
        state.due = Some(Instant::now() + INTERVAL.max(took * COST));
        // A tree that was moved about keeps its last count.
        state.last = usage.or(state.last);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has layers counted, by a thread of its own.
#[derive(Debug)]
pub struct LayerCounter {
    queue: Sender<Arc<Container>>,
}

impl LayerCounter {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] where it can't be started.
    pub fn start(images: Store) -> Result<Self> {
        let (queue, jobs) = channel();
        std::thread::Builder::new()
            .name("layer-usage".to_owned())
            .spawn(move || serve(&images, &jobs))
            .io("start a thread for", "writable layers")?;
        Ok(Self { queue })
    }

    /// The last count of a container's layer. If that is old, another is made in the background.
    pub fn usage(&self, container: &Arc<Container>) -> Option<LayerUsage> {
        self.refresh(container);
        container.meter.layer.last()
    }

    /// Has the layer counted if that is due.
    pub fn refresh(&self, container: &Arc<Container>) {
        if container.meter.layer.take_turn(Instant::now()) {
            // The receiver lives as long as the process. Each container is queued once at most.
            drop(self.queue.send(Arc::clone(container)));
        }
    }
}

fn serve(images: &Store, jobs: &Receiver<Arc<Container>>) {
    while let Ok(container) = jobs.recv() {
        let begun = Instant::now();
        let usage = images.snapshot_of(&container.id).and_then(|snapshot| {
            usage_of(&snapshot.upper)
                .inspect_err(|error| {
                    tracing::debug!(container = container.id, %error, "a writable layer could not be counted");
                })
                .ok()
        });
        let usage = usage.map(|held| LayerUsage {
            bytes: held.bytes,
            inodes: held.inodes,
            counted_at: crate::time::now(),
        });
        container.meter.layer.counted(usage, begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_queued_once_and_not_again_before_it_is_due() {
        let meter = LayerMeter::default();
        let now = Instant::now();
        assert!(meter.take_turn(now));
        assert!(!meter.take_turn(now), "it is queued");
        let usage = LayerUsage {
            bytes: 4096,
            inodes: 1,
            counted_at: 7,
        };
        meter.counted(Some(usage), Duration::from_secs(3));
        assert_eq!(meter.last(), Some(usage));
        assert!(!meter.take_turn(now + INTERVAL), "counting takes long here");
        assert!(meter.take_turn(now + Duration::from_secs(70)));
        meter.counted(None, Duration::ZERO);
        assert_eq!(meter.last(), Some(usage), "a count that failed changes nothing");
    }
}
