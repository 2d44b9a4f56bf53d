//! What the integration tests share: an HTTP server that can lie, an image builder, a store in a temporary folder.
#![allow(unreachable_pub, dead_code, reason = "helpers are shared as they are needed")]

pub mod build;
pub mod disk;
pub mod docker;
pub mod http;
pub mod registry;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pintle_images::{Auth, Image, PullRequest, Result, Store, StoreConfig};

/// A store in a temporary folder.
pub struct TestStore {
    pub store: Store,
    pub folder: tempfile::TempDir,
}

impl TestStore {
    pub fn new() -> TestStore {
        TestStore::with(|_| ())
    }

    pub fn with(edit: impl FnOnce(&mut StoreConfig)) -> TestStore {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        edit(&mut config);
        TestStore {
            store: Store::open(config).unwrap(),
            folder,
        }
    }

    pub async fn pull(&self, reference: &str) -> Result<Arc<Image>> {
        self.pull_as(reference, None).await
    }

    pub async fn pull_as(&self, reference: &str, auth: Option<Auth>) -> Result<Arc<Image>> {
        self.store
            .pull(PullRequest {
                reference: reference.to_owned(),
                auth,
            })
            .await
    }

    /// A path below the store's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("images").join(name)
    }

    /// Closes the store and opens it again, as a new daemon does.
    pub fn reopen(self) -> TestStore {
        self.died(|_| ())
    }

    /// As [`TestStore::reopen`], with another configuration.
    pub fn reopen_with(self, change: impl FnOnce(&mut StoreConfig)) -> TestStore {
        let TestStore { store, folder } = self;
        drop(store);
        let mut config = config(folder.path());
        change(&mut config);
        let store = Store::open(config).unwrap();
        TestStore { store, folder }
    }

    /// Closes the store, lets somebody else do something with it, and opens it again.
    pub fn died(self, between: impl FnOnce(&Path)) -> TestStore {
        let TestStore { store, folder } = self;
        drop(store);
        between(folder.path());
        let store = Store::open(config(folder.path())).unwrap();
        TestStore { store, folder }
    }

    /// The names in one of the store's folders.
    pub fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Nothing is in the store, in memory or on disk.
    pub fn assert_empty(&self) {
        assert!(self.store.list().is_empty());
        assert_eq!(self.store.usage(), pintle_images::Usage::default());
        for folder in ["layers", "frames", "tmp", "snapshots", "views"] {
            assert_eq!(self.names(folder), BTreeSet::new(), "{folder}");
        }
    }

    /// Waits, within bounds, until nothing is in the store: a dropped pull tidies up on its own.
    pub async fn becomes_empty(&self) {
        for _ in 0..200 {
            if self.names("layers").is_empty() && self.names("tmp").is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.assert_empty();
    }
}

pub fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        root: folder.join("images"),
        ..StoreConfig::default()
    }
}
