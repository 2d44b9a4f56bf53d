//! Reads what is on disk again and says what has changed since it was unpacked.

use std::io;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Store;

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// Its files are, to the byte, what its diff id says.
    Whole,
    /// They are not, or can't be read; with the reason.
    Damaged(String),
    /// It can't be told: the layer's stream can't be made again from its files.
    Unknown,
}

/// A layer and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The layer.
    pub diff_id: Digest,
    /// What became of it.
    pub state: LayerState,
}

impl Store {
    /// Hashes the layers of the images that `keys` mean, or of all, each layer once, and hands each result to `told`
    /// as it comes. Content of files, names, and what their headers hold count; a mode or owner that was changed on
    /// disk does not. Blocking, and as long as it takes to read everything.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], and records that are not what their digests say.
    pub fn verify(&self, keys: &[String], mut told: impl FnMut(&Verified)) -> Result<()> {
        let all = || self.list().iter().map(|image| image.id.clone()).collect();
        let keys: Vec<String> = if keys.is_empty() { all() } else { keys.to_vec() };
        let mut seen = Vec::new();
        for key in &keys {
            let whole = self.whole(key)?;
            for (digest, bytes) in [
                (whole.image.manifest_digest, &whole.manifest_bytes),
                (whole.config_digest, &whole.config_bytes),
            ] {
                if Digest::of(bytes) != digest {
                    return Err(Error::DigestMismatch { digest });
                }
            }
            for diff_id in &whole.image.layers {
                if seen.contains(diff_id) {
                    continue;
                }
                seen.push(*diff_id);
                let state = self.state_of(diff_id)?;
                told(&Verified {
                    diff_id: *diff_id,
                    state,
                });
            }
        }
        Ok(())
    }

    fn state_of(&self, diff_id: &Digest) -> Result<LayerState> {
        let mut stream = match self.inner.layer_stream(diff_id) {
            Ok(stream) => stream,
            Err(Error::LayerUnavailable { .. }) => return Ok(LayerState::Unknown),
            Err(Error::Io { source, .. }) => return Ok(LayerState::Damaged(source.to_string())),
            Err(error) => return Err(error),
        };
        Ok(match io::copy(&mut stream, &mut io::sink()) {
            Ok(_) => LayerState::Whole,
            Err(error) => LayerState::Damaged(error.to_string()),
        })
    }
}
