//! The plugins of this moment, in their order, and who was there when an object was announced.
//!
//! A plugin that joins must hear of each pod and container once: in the list that it is given first, or by the event of its
//! creation. Which of the two is decided here, without a lock that creations would share. Each joining has a number; an
//! object that is about to be announced is marked as undecided, the set of plugins is read, and the object keeps the
//! number of the last one in it:
//!
//! ```text
//! creation:   mark undecided ─> read the set ─> mark with its number ─> tell those in the set
//! joining:    enter the set  ─> read the marks ─> those with a lower number go into the list
//! ```
//!
//! Whoever joins and finds no mark will be in the set that the creation reads; and undecided lasts for some
//! instructions only. With no plugin connected a creation costs two stores and a load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::plugin::Plugin;

const UNDECIDED: u64 = u64::MAX;
/// The number of the empty set that is there first.
const FIRST: u64 = 1;

/// When an object was announced to plugins.
#[derive(Debug, Default)]
pub struct Announced(AtomicU64);

impl Announced {
    /// The mark of an object that was there before the daemon.
    pub fn before() -> Self {
        Self(AtomicU64::new(FIRST))
    }

    /// The number of the last plugin that it was announced to; None while it isn't.
    fn number(&self) -> Option<u64> {
        loop {
            match self.0.load(Ordering::SeqCst) {
                0 => return None,
                UNDECIDED => std::thread::yield_now(),
                number => return Some(number),
            }
        }
    }

    /// Whether it was announced before a plugin joined, so that this one has to be given it in its list.
    pub(super) fn is_before(&self, plugin: &Plugin) -> bool {
        let joined = plugin.joined.load(Ordering::SeqCst);
        self.number().is_some_and(|number| number < joined)
    }
}

/// Plugins in the order in which they are asked.
#[derive(Debug)]
pub(super) struct Set {
    number: u64,
    /// The plugins.
    pub(super) plugins: Vec<Arc<Plugin>>,
}

/// All plugins that have joined, or are about to.
#[derive(Debug)]
pub(super) struct Registry {
    set: RwLock<Arc<Set>>,
    /// The set's number, shifted to the left by one, and whether there is anybody in it.
    state: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        let set = Set {
            number: FIRST,
            plugins: Vec::new(),
        };
        Self {
            state: AtomicU64::new(state(&set)),
            set: RwLock::new(Arc::new(set)),
        }
    }
}

fn state(set: &Set) -> u64 {
    set.number << 1 | u64::from(!set.plugins.is_empty())
}

impl Registry {
    /// Those who are there; None without a lock where nobody is.
    pub(super) fn now(&self) -> Option<Arc<Set>> {
        if self.state.load(Ordering::SeqCst) & 1 == 0 {
            return None;
        }
        let set = Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner));
        Some(set).filter(|set| !set.plugins.is_empty())
    }

    /// Marks an object as announced; the plugins that are to hear of it.
    pub(super) fn announce(&self, object: &Announced) -> Option<Arc<Set>> {
        object.0.store(UNDECIDED, Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        if state & 1 == 0 {
            object.0.store(state >> 1, Ordering::SeqCst);
            return None;
        }
        let set = Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner));
        object.0.store(set.number, Ordering::SeqCst);
        Some(set)
    }

    /// Lets a plugin in. From now on it is told of what happens.
    pub(super) fn add(&self, plugin: &Arc<Plugin>) {
        self.change(|set| {
            set.number += 1;
            plugin.joined.store(set.number, Ordering::SeqCst);
            set.plugins.push(Arc::clone(plugin));
            // Stable: of two with the same index the first to come is the first to be asked.
            set.plugins.sort_by(|a, b| a.name[..2].cmp(&b.name[..2]));
        });
    }

    /// Forgets a plugin.
    pub(super) fn remove(&self, plugin: &Arc<Plugin>) {
        self.change(|set| set.plugins.retain(|other| !Arc::ptr_eq(other, plugin)));
    }

    fn change(&self, change: impl FnOnce(&mut Set)) {
        let mut current = self.set.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Set {
            number: current.number,
            plugins: current.plugins.clone(),
        };
        change(&mut next);
        self.state.store(state(&next), Ordering::SeqCst);
        *current = Arc::new(next);
    }
}

#[cfg(test)]
mod tests;
