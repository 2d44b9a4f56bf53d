//! Removes images.

use std::sync::Arc;

use super::{Inner, Store, lookup};
use crate::crash;
use crate::digest::Digest;
use crate::error::{Error, Result};

impl Store {
    /// Removes an image with all its tags and digests. An image that is not here is no error. Layers that a
    /// snapshot or another image holds stay until that lets them go. Once begun it goes to its end, also if the
    /// future is dropped.
    ///
    /// # Errors
    /// Those of [`Store::get`], and what goes wrong with the records or the files.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let Some(id) = lookup::find(&self.inner.state(), key)? else {
            return Ok(());
        };
        let inner = Arc::clone(&self.inner);
        let work = tokio::task::spawn_blocking(move || inner.remove(&id));
        work.await.map_err(|_| Error::Worker {
            what: "removing an image",
        })?
    }
}

impl Inner {
    fn remove(&self, id: &Digest) -> Result<()> {
        let commit = self.lock_commit();
        let (names, content) = {
            let state = self.state();
            let Some(entry) = state.images.get(id) else {
                return Ok(());
            };
            let names: Vec<String> = state
                .names
                .iter()
                .filter(|(_, other)| *other == id)
                .map(|(name, _)| name.clone())
                .collect();
            let others = || state.images.values().filter(|other| other.record.id != *id);
            let is_shared = |digest: &Digest| others().any(|other| other.record.content.contains(digest));
            let mut content = entry.record.content.clone();
            content.retain(|digest| !is_shared(digest));
            (names, content)
        };
        self.records.change(|change| {
            names.iter().try_for_each(|name| change.drop_name(name))?;
            content
                .iter()
                .try_for_each(|digest| change.drop_content(digest))?;
            change.drop_image(id)
        })?;
        crash::point("image-forgotten");
        let layers = {
            let mut state = self.state();
            state.names.retain(|_, other| other != id);
            state
                .images
                .remove(id)
                .map(|entry| entry.record.held())
                .unwrap_or_default()
        };
        drop(commit);
        let doomed = self.let_go(&layers);
        self.bury(&doomed)
    }
}
