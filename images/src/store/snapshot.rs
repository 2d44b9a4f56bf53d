//! Writable views of an image, one for each container.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::{Stack, unique};
use super::{Inner, Store, lookup, temp};
use crate::crash;
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};
use crate::unpack::RootAttributes;

const RECORD: &str = "layers.json";
/// Long enough for two ids of 64 digits with something between them.
const MAX_ID: usize = 200;

/// The folders of an overlay mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The layers, the topmost first; at least one.
    pub lower: Vec<PathBuf>,
    /// What the container writes.
    pub upper: PathBuf,
    /// Overlayfs's own.
    pub work: PathBuf,
}

/// What a snapshot's folder says of it.
#[derive(Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    /// Diff ids, the topmost first.
    pub(super) lowers: Vec<Digest>,
    /// Where a folder with the container's name holds upper and work; None for the snapshot's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<PathBuf>,
}

impl Store {
    /// Makes the snapshot of a container: its own upper folder on the image's layers, which it holds until
    /// [`Store::release`], also when the image is removed and over restarts. Blocking, and fast: nothing is synced.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::SnapshotExists`], [`Error::InvalidContainerId`], I/O errors.
    pub fn snapshot(&self, container_id: &str, image_id: &str) -> Result<Snapshot> {
        self.snapshot_in(container_id, image_id, None)
    }

    /// As [`Store::snapshot`], with what the container writes in one of `StoreConfig::snapshot_places`; None for the store's
    /// own folder.
    ///
    /// # Errors
    /// As [`Store::snapshot`], and [`Error::Config`] for a place that is none of those.
    pub fn snapshot_in(&self, container_id: &str, image_id: &str, place: Option<&Path>) -> Result<Snapshot> {
        check_id(container_id)?;
        if let Some(path) = place
            && !self.inner.places.iter().any(|known| known.path() == path)
        {
            return Err(Error::Config {
                key: "snapshots_dir",
                value: path.display().to_string(),
                reason: "it was not named when the store was opened".to_owned(),
            });
        }
        let view = self.inner.hold_for(container_id, image_id)?;
        match self.inner.make_snapshot(container_id, &view, place) {
            Ok(record) => Ok(self.inner.snapshot_of(container_id, &record)),
            Err(error) => {
                let layers = self
                    .inner
                    .state()
                    .snapshots
                    .remove(container_id)
                    .unwrap_or_default();
                let doomed = self.inner.let_go(&layers);
                self.inner.bury(&doomed)?;
                Err(error)
            }
        }
    }

    /// Removes a container's snapshot and lets its layers go. One that is not here is no error. Blocking.
    ///
    /// # Errors
    /// What goes wrong with the files.
    pub fn release(&self, container_id: &str) -> Result<()> {
        check_id(container_id)?;
        let folder = self.inner.snapshot_folder(container_id);
        // What lies elsewhere goes first: as long as the record is there, it is known where that is.
        if let Some(place) = read_record(&folder).and_then(|record| record.place) {
            temp::remove_tree(&place.join(container_id))?;
        }
        let layers = self.inner.state().snapshots.remove(container_id);
        let grave = self.inner.temp.unused_path();
        let buried = match fs::rename(&folder, &grave) {
            Ok(()) => {
                crash::point("snapshot-moved");
                temp::remove_tree(&grave)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).at("remove", &folder),
        };
        let doomed = self.inner.let_go(&layers.unwrap_or_default());
        self.inner.bury(&doomed).and(buried)
    }

    /// The containers that have a snapshot.
    #[must_use]
    pub fn snapshots(&self) -> Vec<String> {
        self.inner.state().snapshots.keys().cloned().collect()
    }

    /// The snapshot that a container has, e.g. after a restart.
    #[must_use]
    pub fn snapshot_of(&self, container_id: &str) -> Option<Snapshot> {
        let folder = self.inner.snapshot_folder(container_id);
        self.inner
            .state()
            .snapshots
            .contains_key(container_id)
            .then_some(())?;
        let record = read_record(&folder)?;
        Some(self.inner.snapshot_of(container_id, &record))
    }
}

impl Inner {
    fn snapshot_folder(&self, container_id: &str) -> PathBuf {
        self.config.root.join("snapshots").join(container_id)
    }

    pub(super) fn lower_paths(&self, lowers: &[Digest]) -> Vec<PathBuf> {
        if lowers.is_empty() {
            return vec![self.config.root.join("empty")];
        }
        lowers.iter().map(|diff_id| self.layer_path(diff_id)).collect()
    }

    fn snapshot_of(&self, container_id: &str, record: &SnapshotRecord) -> Snapshot {
        let folder = match &record.place {
            Some(place) => place.join(container_id),
            None => self.snapshot_folder(container_id),
        };
        Snapshot {
            lower: self.lower_paths(&record.lowers),
            upper: folder.join("upper"),
            work: folder.join("work"),
        }
    }

    /// Books the snapshot and its hold on the layers.
    fn hold_for(&self, container_id: &str, image_id: &str) -> Result<Stack> {
        let mut state = self.state();
        if state.snapshots.contains_key(container_id) {
            return Err(Error::SnapshotExists {
                id: container_id.to_owned(),
            });
        }
        let view = lookup::view_of(&state, image_id)?;
        let layers = unique(&view.lowers);
        for diff_id in &layers {
            state.hold(diff_id);
        }
        state.snapshots.insert(container_id.to_owned(), layers);
        Ok(view)
    }

    /// Makes the folders, and the record that counts last.
    fn make_snapshot(
        &self,
        container_id: &str,
        view: &Stack,
        place: Option<&Path>,
    ) -> Result<SnapshotRecord> {
        let folder = self.temp.make()?;
        let record = SnapshotRecord {
            lowers: view.lowers.clone(),
            place: place.map(Path::to_owned),
        };
        let elsewhere = place
            .map(|place| Elsewhere::make(place.join(container_id)))
            .transpose()?;
        let upper = elsewhere.as_ref().map_or(folder.path(), Elsewhere::path);
        make_root(&upper.join("upper"), view.root)?;
        let work = upper.join("work");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&work)
            .at("create", &work)?;
        record.write(&folder.path().join(RECORD), container_id)?;
        crash::point("snapshot-made");
        let own = self.snapshot_folder(container_id);
        fs::rename(folder.path(), &own).at("rename snapshot to", &own)?;
        folder.keep();
        if let Some(elsewhere) = elsewhere {
            elsewhere.keep();
        }
        crash::point("snapshot-placed");
        Ok(record)
    }
}

/// A folder in a place outside of the store, which is removed unless it is kept.
struct Elsewhere(Option<PathBuf>);

impl Elsewhere {
    fn make(path: PathBuf) -> Result<Elsewhere> {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .at("create", &path)?;
        Ok(Elsewhere(Some(path)))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|path| temp::remove_tree(&path)) {
            tracing::warn!(%error, "a writable layer stays until the next start");
        }
    }
}

/// Makes an upper folder: what it is becomes the root folder of the container.
fn make_root(path: &Path, root: RootAttributes) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .at("create", path)?;
    if (root.uid, root.gid) != (0, 0) {
        std::os::unix::fs::chown(path, Some(root.uid), Some(root.gid)).at("set owner of", path)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(root.mode)).at("set mode of", path)
}

/// The record in a snapshot's folder; `None` if it can't be read, as after a power cut.
pub(super) fn read_record(folder: &Path) -> Option<SnapshotRecord> {
    read_file(&folder.join(RECORD))
}

pub(super) fn read_file(path: &Path) -> Option<SnapshotRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

pub(super) fn write_file(path: &Path, id: &str, lowers: &[Digest]) -> Result<()> {
    let record = SnapshotRecord {
        lowers: lowers.to_vec(),
        place: None,
    };
    record.write(path, id)
}

impl SnapshotRecord {
    fn write(&self, path: &Path, id: &str) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|source| Error::Record {
            key: id.to_owned(),
            source,
        })?;
        fs::write(path, bytes).at("write", path)
    }
}

/// An id names a folder, so it must be a plain name.
pub(super) fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || !id.bytes().all(plain) {
        return Err(Error::InvalidContainerId { id: id.to_owned() });
    }
    Ok(())
}
