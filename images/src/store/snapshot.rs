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
}

impl Store {
    /// Makes the snapshot of a container: its own upper folder on the image's layers, which it holds until
    /// [`Store::release`], also when the image is removed and over restarts. Blocking, and fast: nothing is synced.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::SnapshotExists`], [`Error::InvalidContainerId`], I/O errors.
    pub fn snapshot(&self, container_id: &str, image_id: &str) -> Result<Snapshot> {
        check_id(container_id)?;
        let view = self.inner.hold_for(container_id, image_id)?;
        match self.inner.make_snapshot(container_id, &view) {
            Ok(()) => Ok(self.inner.snapshot_of(container_id, &view.lowers)),
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
        let layers = self.inner.state().snapshots.remove(container_id);
        let grave = self.inner.temp.unused_path();
        let folder = self.inner.snapshot_folder(container_id);
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
        Some(self.inner.snapshot_of(container_id, &record.lowers))
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

    fn snapshot_of(&self, container_id: &str, lowers: &[Digest]) -> Snapshot {
        let folder = self.snapshot_folder(container_id);
        Snapshot {
            lower: self.lower_paths(lowers),
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

    fn make_snapshot(&self, container_id: &str, view: &Stack) -> Result<()> {
        let folder = self.temp.make()?;
        make_root(&folder.path().join("upper"), view.root)?;
        let work = folder.path().join("work");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&work)
            .at("create", &work)?;
        write_file(&folder.path().join(RECORD), container_id, &view.lowers)?;
        crash::point("snapshot-made");
        let place = self.snapshot_folder(container_id);
        fs::rename(folder.path(), &place).at("rename snapshot to", &place)?;
        folder.keep();
        crash::point("snapshot-placed");
        Ok(())
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
    };
    let bytes = serde_json::to_vec(&record).map_err(|source| Error::Record {
        key: id.to_owned(),
        source,
    })?;
    fs::write(path, bytes).at("write", path)
}

/// An id names a folder, so it must be a plain name.
pub(super) fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || !id.bytes().all(plain) {
        return Err(Error::InvalidContainerId { id: id.to_owned() });
    }
    Ok(())
}
