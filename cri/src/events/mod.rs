//! What happens to pods and containers, told to whoever listens (GetContainerEvents).
//!
//! One ring holds the newest events for all listeners; each has but a place in it, so that none can make the daemon
//! keep anything for it or wait for it. Who falls behind the ring's end is told so. An event holds the records of its
//! moment, which the store shares; messages are made of them for those who listen only.
//!
//! The times of events rise strictly, also where the clock doesn't, so that the time of the last event that a listener has
//! seen is its place: with it a listener goes on after a broken connection.

mod subscription;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use subscription::Subscription;

use crate::container::{Container, ContainerRecord};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::pod::{Pod, PodRecord};
use crate::proto::ContainerEventType;

/// The name of a place in the metadata of request and answer: the time of an event, to go on after it.
pub(crate) const TOKEN: &str = "pintle-resume-token";
/// How many events are kept.
const KEPT: usize = 2048;

/// Something that happened.
#[derive(Debug)]
pub struct Event {
    /// What.
    pub kind: ContainerEventType,
    /// To which container, or pod.
    pub id: String,
    /// When, in nanoseconds since the epoch.
    pub created_at: i64,
    /// The pod then.
    pub pod: Arc<PodRecord>,
    /// Its containers then.
    pub containers: Vec<Arc<ContainerRecord>>,
}

/// All events of late.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    /// Says that there is something new, or that the daemon ends.
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The time of the last event ever, or of the ring's beginning.
    last: i64,
    /// Events up to this time are no longer there.
    forgotten: i64,
    is_closed: bool,
}

impl Default for Events {
    fn default() -> Self {
        let now = crate::time::now();
        Self {
            ring: Mutex::new(Ring {
                events: VecDeque::new(),
                last: now,
                forgotten: now,
                is_closed: false,
            }),
            news: watch::Sender::new(()),
        }
    }
}

impl Events {
    /// Now, but not before any event so far: what is looked at from now on is not older than them.
    pub fn now(&self) -> i64 {
        crate::time::now().max(self.lock().last)
    }

    /// Listens from now on, or from after a time.
    ///
    /// # Errors
    /// [`Error::EventsForgotten`] where events after that time are no longer kept, or where it lies in the future.
    pub fn subscribe(&self, after: Option<i64>) -> Result<Subscription<'_>> {
        let news = self.news.subscribe();
        let mut ring = self.lock();
        let after = after.unwrap_or(ring.last);
        let now = crate::time::now().max(ring.last);
        if after < ring.forgotten || after > now {
            return Err(Error::EventsForgotten {
                oldest: ring.forgotten,
            });
        }
        // What comes is later than any place that somebody has.
        ring.last = ring.last.max(after);
        Ok(Subscription::new(self, news, after))
    }

    /// Ends all subscriptions, for the daemon ends.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.news.send_replace(());
    }

    fn push(&self, make: impl FnOnce(i64) -> Event) {
        let mut ring = self.lock();
        let created_at = crate::time::now().max(ring.last + 1);
        // Made under the lock: a later event never shows an earlier state.
        let event = Arc::new(make(created_at));
        ring.last = created_at;
        ring.events.push_back(event);
        if ring.events.len() > KEPT
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.forgotten = oldest.created_at;
        }
        drop(ring);
        self.news.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells of something that happened to a container.
pub(crate) fn of_container(core: &Core, kind: ContainerEventType, container: &Container) {
    // Without its pod nobody could make anything of it.
    if let Some(pod) = core.pods.get(&container.pod_id) {
        publish(core, kind, &container.id, &pod);
    }
}

/// Tells of something that happened to a pod.
pub(crate) fn of_pod(core: &Core, kind: ContainerEventType, pod: &Pod) {
    publish(core, kind, &pod.id, pod);
}

fn publish(core: &Core, kind: ContainerEventType, id: &str, pod: &Pod) {
    core.events.push(|created_at| Event {
        kind,
        id: id.to_owned(),
        created_at,
        pod: pod.cell.get(),
        containers: core
            .containers_of(&pod.id)
            .iter()
            .filter(|container| container.visible())
            .map(|container| container.cell.get())
            .collect(),
    });
}

#[cfg(test)]
mod tests;
