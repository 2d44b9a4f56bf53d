//! Makes a pulled image durable and visible.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::image::ImageConfiguration;

use super::fix::Placed;
use super::records::{Change, ImageRecord, LayerRecord};
use super::state::unique;
use super::{Inner, Lease, temp};
use crate::crash;
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::image::Image;

/// A pulled image whose layers are unpacked.
pub(crate) struct NewImage {
    pub(crate) record: ImageRecord,
    pub(crate) config: ImageConfiguration,
    /// Configuration, manifest and index, by digest.
    pub(crate) content: Vec<(Digest, Vec<u8>)>,
    /// `domain/path:tag` and `domain/path@digest`.
    pub(crate) names: Vec<String>,
    /// One for each layer of the record.
    pub(crate) leases: Vec<Lease>,
}

impl Inner {
    /// Commits an image: syncs, gives the layers their places, writes the records, shows it. Blocking. Nothing has
    /// happened if it fails, or if `cancelled` is set before the records are written.
    pub(crate) fn commit(self: &Arc<Self>, new: NewImage, cancelled: &AtomicBool) -> Result<Arc<Image>> {
        let NewImage {
            mut record,
            config,
            content,
            names,
            mut leases,
        } = new;
        let layers = unique(&record.layers);
        if self.any_staged(&layers) {
            // One call puts every file of every layer on disk, at a fraction of what an fsync a file costs.
            rustix::fs::syncfs(&self.root).at("sync file system of", &self.config.root)?;
        }
        crash::point("synced");
        let commit = self.lock_commit();
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let mut placed = self.place(&layers)?;
        if let Some((id, lease)) = self.make_folders(&record.layers)? {
            leases.push(lease);
            placed.extend(self.place(&[id])?);
            record.fix = Some(id);
        }
        crash::point("layers-placed");
        if let Some(known) = self.state().images.get(&record.id) {
            record.content.extend(&known.record.content);
        }
        record.content = unique(&record.content);
        self.records.change(|change| {
            write_image(change, &record, &content, &names)?;
            placed
                .iter()
                .try_for_each(|(diff_id, layer)| change.put_layer(diff_id, layer))
        })?;
        crash::point("recorded");
        let image = self.show(record, config, &names)?;
        drop(commit);
        drop(leases);
        Ok(image)
    }

    /// Makes the layer that corrects folders, if the image needs one.
    fn make_folders(self: &Arc<Self>, layers: &[Digest]) -> Result<Option<(Digest, Lease)>> {
        let placed: Vec<Placed> = {
            let state = self.state();
            let record = |id: &Digest| state.layers.get(id).map(|layer| layer.record.clone());
            let described = layers
                .iter()
                .rev()
                .filter_map(|id| Some((self.layer_path(id), record(id)?)));
            described.map(|(path, record)| Placed { path, record }).collect()
        };
        let Some((id, record, folder)) = self.make_fix(&placed)? else {
            return Ok(None);
        };
        let lease = Lease::stage(self, id, record, folder);
        if self.any_staged(&[id]) {
            rustix::fs::syncfs(&self.root).at("sync file system of", &self.config.root)?;
        }
        Ok(Some((id, lease)))
    }

    fn any_staged(&self, layers: &[Digest]) -> bool {
        let state = self.state();
        layers.iter().any(|diff_id| {
            state
                .layers
                .get(diff_id)
                .is_some_and(|layer| layer.staged.is_some())
        })
    }

    /// Gives each layer its place by rename; gives back the records of those that were moved.
    fn place(&self, layers: &[Digest]) -> Result<Vec<(Digest, LayerRecord)>> {
        let mut placed = Vec::new();
        let mut state = self.state();
        for diff_id in layers {
            let Some(layer) = state.layers.get_mut(diff_id) else {
                continue;
            };
            if let Some(staged) = &layer.staged {
                if layer.record.framed {
                    let place = self.frame_path(diff_id);
                    fs::rename(temp::frame_of(staged), &place).at("rename frame to", &place)?;
                    crash::point("frame-placed");
                }
                let place = self.layer_path(diff_id);
                fs::rename(staged, &place).at("rename layer to", &place)?;
                layer.staged = None;
                crash::point("layer-placed");
            }
            placed.push((*diff_id, layer.record.clone()));
        }
        drop(state);
        if !placed.is_empty() {
            for folder in [self.frames_folder(), self.layers_folder()] {
                File::open(&folder)
                    .and_then(|folder| folder.sync_all())
                    .at("sync", &folder)?;
            }
        }
        Ok(placed)
    }

    fn show(&self, record: ImageRecord, config: ImageConfiguration, names: &[String]) -> Result<Arc<Image>> {
        let id = record.id;
        let mut state = self.state();
        let mut renamed = BTreeSet::new();
        for name in names {
            renamed.extend(state.names.insert(name.clone(), id));
        }
        if !state.images.contains_key(&id) {
            for diff_id in &record.held() {
                state.hold(diff_id);
            }
        }
        state.put_image(record, config)?;
        for other in renamed.into_iter().filter(|other| *other != id) {
            state.refresh(&other);
        }
        let entry = state
            .images
            .get(&id)
            .ok_or_else(|| Error::NoSuchImage { key: id.to_string() })?;
        Ok(Arc::clone(&entry.image))
    }

    /// Gives an image that is here more names: what was asked for turned out to be known.
    pub(crate) fn name_image(&self, id: &Digest, names: &[String]) -> Result<Option<Arc<Image>>> {
        let _commit = self.lock_commit();
        let missing: Vec<&String> = {
            let state = self.state();
            if !state.images.contains_key(id) {
                return Ok(None);
            }
            names
                .iter()
                .filter(|name| state.names.get(*name) != Some(id))
                .collect()
        };
        if !missing.is_empty() {
            self.records
                .change(|change| missing.iter().try_for_each(|name| change.put_name(name, id)))?;
        }
        let mut state = self.state();
        for name in missing {
            if let Some(other) = state.names.insert(name.clone(), *id) {
                state.refresh(&other);
            }
            state.refresh(id);
        }
        Ok(state.images.get(id).map(|entry| Arc::clone(&entry.image)))
    }
}

fn write_image(
    change: &Change,
    record: &ImageRecord,
    content: &[(Digest, Vec<u8>)],
    names: &[String],
) -> Result<()> {
    for (digest, bytes) in content {
        change.put_content(digest, bytes)?;
    }
    for name in names {
        change.put_name(name, &record.id)?;
    }
    change.put_image(record)
}
