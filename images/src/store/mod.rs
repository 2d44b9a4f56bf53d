//! The store: images, layers and snapshots on one file system.
//!
//! ```text
//! root/
//!   records.redb              images, names, layers, and the bytes of manifests and configurations
//!   layers/<diff id, hex>/    one unpacked layer, in overlayfs's own form; never changes
//!   frames/<diff id, hex>     what its tar stream held besides the files' content (see `unpack::frame`)
//!   snapshots/<container>/    layers.json, upper/, work/; the latter two may lie elsewhere (see `place`)
//!   views/<id>                layers.json of a read-only view, which has no folder of its own
//!   tmp/<n>/                  being unpacked, or being removed; emptied at start
//!   empty/                    stands for the layers of an image without layers
//!   none/                     lies below the only layer of a view
//! ```
//!
//! What holds a layer: an image's record, a snapshot, a pull under way ([`lease::Lease`]). The references are
//! counted in memory and follow from the records at start; a layer without one is removed.
//!
//! Order of durability: a pull unpacks into `tmp/`, one syncfs(2) puts all of it on disk, renames give the layers
//! their places, and only then the record is committed. Whatever is in `layers/` without a record, and everything in
//! `tmp/`, is removed at start. Removal goes the other way: record first, then files.
//! A snapshot appears by rename and is not synced: it outlives the daemon, and after a power cut its container
//! does not run any more.
//!
//! Locks: `commit` before `state`; `state` is held for memory work and single renames only.

mod commit;
mod fix;
mod layer;
mod lease;
mod lookup;
mod names;
mod place;
mod records;
mod recover;
mod remove;
mod snapshot;
mod state;
mod temp;
#[cfg(test)]
mod tests;
mod view;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Semaphore;

use crate::config::StoreConfig;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::{Image, Usage};
use crate::registry::Registries;

pub(crate) use commit::NewImage;
pub(crate) use layer::{LayerStream, Whole};
pub(crate) use lease::Lease;
pub(crate) use records::{ImageRecord, LayerRecord};
pub use snapshot::Snapshot;
pub(crate) use temp::TempDir;
pub use view::View;

use place::Place;
use records::Records;
use state::State;
use temp::TempFolder;

/// An image store. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones of a [`Store`] share.
pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) registries: Registries,
    /// Bounds the layers that are asked for at once.
    pub(crate) layer_slots: Arc<Semaphore>,
    /// Bounds those that are unpacked at once: one more than the cores can do only takes memory.
    pub(crate) workers: Arc<Semaphore>,
    pub(crate) temp: TempFolder,
    /// The root folder, held open so that syncfs(2) reports every failed write since the start.
    root: File,
    records: Records,
    /// Where snapshots may lie besides.
    places: Vec<Place>,
    /// Held by whoever changes the records together with the layers' places.
    commit: Mutex<()>,
    state: Mutex<State>,
    flights: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Inner {
    /// A panic elsewhere does not spoil what is in memory: every change is made whole before the lock is let go.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_commit(&self) -> MutexGuard<'_, ()> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers_folder(&self) -> PathBuf {
        self.config.root.join("layers")
    }

    fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layers_folder().join(diff_id.hex())
    }

    fn frames_folder(&self) -> PathBuf {
        self.config.root.join("frames")
    }

    fn frame_path(&self, diff_id: &Digest) -> PathBuf {
        self.frames_folder().join(diff_id.hex())
    }

    /// The lock that whoever fetches a layer holds, so that it is fetched once.
    pub(crate) fn flight(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(diff_id).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(*diff_id, Arc::downgrade(&flight));
        flight
    }
}

impl Store {
    /// Opens the store in `config.root` and removes what a crash left. Blocking.
    ///
    /// # Errors
    /// The folder or the records can't be read or written, or another process has the store open.
    pub fn open(config: StoreConfig) -> Result<Store> {
        recover::open(config).map(|inner| Store {
            inner: Arc::new(inner),
        })
    }

    /// Every image, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.inner
            .state()
            .images
            .values()
            .map(|entry| Arc::clone(&entry.image))
            .collect()
    }

    /// What all layers take of the disk, from counters.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner.state().usage
    }

    /// The folder that holds the store: what it takes and has left is that of this folder's file system.
    #[must_use]
    pub fn root(&self) -> &std::path::Path {
        &self.inner.config.root
    }
}
