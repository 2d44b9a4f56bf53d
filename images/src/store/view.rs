//! Read-only views of an image: what an image volume is mounted from.

use std::fs;
use std::path::PathBuf;

use super::snapshot::{check_id, write_file};
use super::state::unique;
use super::temp::remove_file;
use super::{Inner, Store, lookup};
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};

/// The folders of a read-only overlay mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The layers, the topmost first; at least two, since overlayfs wants that where there is no upper folder.
    pub lower: Vec<PathBuf>,
}

impl Store {
    /// Holds an image's layers for reading until [`Store::release_view`], also when the image is removed and over
    /// restarts. The id is the caller's, e.g. of a pod and an image. Asked for once more with the same image, the
    /// same view is given back: whoever shares a view counts its users. A path inside the image must be resolved in
    /// the mounted overlay (openat2(2), `RESOLVE_IN_ROOT`): only there the layers are one. Blocking, nothing is synced.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::SnapshotExists`] where the id stands for other layers,
    /// [`Error::InvalidContainerId`], I/O errors.
    pub fn view(&self, id: &str, image: &str) -> Result<View> {
        check_id(id)?;
        let (lowers, new) = self.inner.hold_view(id, image)?;
        if new && let Err(error) = self.inner.write_view(id, &lowers) {
            self.release_view(id)?;
            return Err(error);
        }
        Ok(self.inner.view_of(&lowers))
    }

    /// Lets a view go. One that is not here is no error. Blocking.
    ///
    /// # Errors
    /// What goes wrong with the files.
    pub fn release_view(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let layers = self.inner.state().views.remove(id).unwrap_or_default();
        let removed = remove_file(&self.inner.view_path(id));
        let doomed = self.inner.let_go(&layers);
        self.inner.bury(&doomed).and(removed)
    }

    /// The ids of the views that are held.
    #[must_use]
    pub fn views(&self) -> Vec<String> {
        self.inner.state().views.keys().cloned().collect()
    }
}

impl Inner {
    fn view_path(&self, id: &str) -> PathBuf {
        self.config.root.join("views").join(id)
    }

    fn view_of(&self, lowers: &[Digest]) -> View {
        let mut lower = self.lower_paths(lowers);
        if lower.len() < 2 {
            // Not the other empty folder: overlayfs takes none twice.
            lower.push(self.config.root.join("none"));
        }
        View { lower }
    }

    /// Books the view; gives back its layers, the topmost first, and whether it is new.
    fn hold_view(&self, id: &str, image: &str) -> Result<(Vec<Digest>, bool)> {
        let mut state = self.state();
        let lowers = lookup::view_of(&state, image)?.lowers;
        let layers = unique(&lowers);
        match state.views.get(id) {
            Some(held) if *held == layers => return Ok((lowers, false)),
            Some(_) => return Err(Error::SnapshotExists { id: id.to_owned() }),
            None => {}
        }
        for diff_id in &layers {
            state.hold(diff_id);
        }
        state.views.insert(id.to_owned(), layers);
        Ok((lowers, true))
    }

    fn write_view(&self, id: &str, lowers: &[Digest]) -> Result<()> {
        let written = self.temp.unused_path();
        write_file(&written, id, lowers)?;
        let place = self.view_path(id);
        fs::rename(&written, &place).at("rename view to", &place)
    }
}
