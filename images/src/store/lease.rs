//! A pull's hold on a layer until the image's record holds it.

use std::sync::Arc;

use super::records::LayerRecord;
use super::state::Doomed;
use super::temp::TempDir;
use super::{Inner, temp};
use crate::crash;
use crate::digest::Digest;
use crate::error::Result;

/// Keeps a layer from being removed.
pub(crate) struct Lease {
    inner: Arc<Inner>,
    diff_id: Digest,
    held: bool,
}

impl Lease {
    /// Holds a layer that is here, durable or not; `None` if it is not here.
    pub(crate) fn take(inner: &Arc<Inner>, diff_id: &Digest) -> Option<Lease> {
        let held = inner.state().hold(diff_id);
        held.then(|| Lease {
            inner: Arc::clone(inner),
            diff_id: *diff_id,
            held,
        })
    }

    /// Takes up a layer that was just unpacked. Whoever calls holds the layer's flight, so there is none yet.
    pub(crate) fn stage(inner: &Arc<Inner>, diff_id: Digest, record: LayerRecord, folder: TempDir) -> Lease {
        let mut state = inner.state();
        if state.hold(&diff_id) {
            drop(state);
            drop(folder);
        } else {
            state.add_layer(diff_id, record, Some(folder.keep()));
        }
        Lease {
            inner: Arc::clone(inner),
            diff_id,
            held: true,
        }
    }

    /// Lets the layer go and waits until it is removed if nobody else holds it. Blocking.
    pub(crate) fn release(mut self) -> Result<()> {
        self.held = false;
        let doomed = self.inner.let_go(&[self.diff_id]);
        self.inner.bury(&doomed)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        let doomed = self.inner.let_go(&[self.diff_id]);
        if doomed.is_empty() {
            return;
        }
        // Dropped with a cancelled future, on a thread that must not wait for the disk.
        let inner = Arc::clone(&self.inner);
        std::thread::spawn(move || {
            if let Err(error) = inner.bury(&doomed) {
                tracing::warn!(%error, "a layer stays on disk until the next start");
            }
        });
    }
}

impl Inner {
    /// Takes a reference from each layer; the folders of those without one move to `tmp/` at once, so that their
    /// places are free. What comes back must be given to [`Inner::bury`].
    pub(super) fn let_go(&self, diff_ids: &[Digest]) -> Vec<Doomed> {
        let mut state = self.state();
        let mut doomed = state.let_go(diff_ids);
        for layer in doomed.iter_mut().filter(|layer| layer.staged.is_none()) {
            let grave = self.temp.unused_path();
            let frame = self.frame_path(&layer.diff_id);
            match std::fs::rename(self.layer_path(&layer.diff_id), &grave) {
                Ok(()) => {
                    // There is none for some layers, and one that stays is removed at the next start.
                    drop(std::fs::rename(frame, temp::frame_of(&grave)));
                    layer.staged = Some(grave);
                }
                Err(error) => tracing::warn!(%error, layer = %layer.diff_id, "can't move a layer to tmp/"),
            }
        }
        doomed
    }

    /// Removes the records and files of layers that nobody holds. Blocking.
    pub(super) fn bury(&self, doomed: &[Doomed]) -> Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        crash::point("layers-moved");
        let commit = self.lock_commit();
        // Another pull may have brought the same layer back in the meantime.
        let gone: Vec<Digest> = {
            let state = self.state();
            let placed = |id: &Digest| state.layers.get(id).is_some_and(|layer| layer.staged.is_none());
            doomed
                .iter()
                .map(|layer| layer.diff_id)
                .filter(|id| !placed(id))
                .collect()
        };
        self.records
            .change(|change| gone.iter().try_for_each(|diff_id| change.drop_layer(diff_id)))?;
        drop(commit);
        crash::point("layers-forgotten");
        doomed
            .iter()
            .filter_map(|layer| layer.staged.as_deref())
            .try_for_each(temp::remove_layer)
    }
}
