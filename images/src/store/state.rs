//! What the store knows, in memory: every answer comes from here.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

use super::records::{ImageRecord, LayerRecord};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Image, Usage, fits};
use crate::unpack::RootAttributes;

/// The root folder of an image whose layers say nothing of it.
const DEFAULT_ROOT: RootAttributes = RootAttributes {
    mode: 0o755,
    uid: 0,
    gid: 0,
};

/// An image with what its snapshots need.
pub(super) struct Entry {
    pub(super) record: ImageRecord,
    pub(super) image: Arc<Image>,
    config: ImageConfiguration,
    pub(super) view: Stack,
}

/// How an image's layers lie upon one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stack {
    pub(super) root: RootAttributes,
    /// Diff ids, the topmost first, each once, without what an opaque root hides.
    pub(super) lowers: Vec<Digest>,
}

/// A layer, and how many images, snapshots and pulls hold it.
pub(super) struct Layer {
    pub(super) record: LayerRecord,
    /// Where it lies until it is durable; `None` once it has its place.
    pub(super) staged: Option<PathBuf>,
    refs: usize,
}

/// A layer that nobody holds any more.
#[derive(Debug)]
pub(super) struct Doomed {
    pub(super) diff_id: Digest,
    /// Its folder, if that was not in its place yet.
    pub(super) staged: Option<PathBuf>,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct State {
    pub(super) images: BTreeMap<Digest, Entry>,
    pub(super) names: BTreeMap<String, Digest>,
    pub(super) layers: HashMap<Digest, Layer>,
    pub(super) snapshots: BTreeMap<String, Vec<Digest>>,
    pub(super) views: BTreeMap<String, Vec<Digest>>,
    pub(super) usage: Usage,
    pub(super) pinned: Vec<String>,
}

impl State {
    /// Takes a layer up, with one reference.
    pub(super) fn add_layer(&mut self, diff_id: Digest, record: LayerRecord, staged: Option<PathBuf>) {
        self.usage.bytes += record.bytes;
        self.usage.inodes += record.inodes;
        self.layers.insert(
            diff_id,
            Layer {
                record,
                staged,
                refs: 1,
            },
        );
    }

    /// Adds a reference to a layer; `false` if it is not here.
    pub(super) fn hold(&mut self, diff_id: &Digest) -> bool {
        match self.layers.get_mut(diff_id) {
            Some(layer) => {
                layer.refs += 1;
                true
            }
            None => false,
        }
    }

    /// Takes a reference from each layer, and gives back those that have none left.
    pub(super) fn let_go(&mut self, diff_ids: &[Digest]) -> Vec<Doomed> {
        let mut doomed = Vec::new();
        for diff_id in diff_ids {
            let Some(layer) = self.layers.get_mut(diff_id) else {
                continue;
            };
            layer.refs = layer.refs.saturating_sub(1);
            if layer.refs > 0 {
                continue;
            }
            if let Some(layer) = self.layers.remove(diff_id) {
                self.usage.bytes -= layer.record.bytes;
                self.usage.inodes -= layer.record.inodes;
                doomed.push(Doomed {
                    diff_id: *diff_id,
                    staged: layer.staged,
                });
            }
        }
        doomed
    }

    /// Takes an image up whose layers are held for it already, or replaces its record.
    pub(super) fn put_image(&mut self, record: ImageRecord, config: ImageConfiguration) -> Result<()> {
        let view = self.view(&record)?;
        let image = Arc::new(self.describe(&record, &config));
        self.images.insert(
            record.id,
            Entry {
                record,
                image,
                config,
                view,
            },
        );
        Ok(())
    }

    /// Gives an image its present names, after they changed.
    pub(super) fn refresh(&mut self, id: &Digest) {
        let Some(entry) = self.images.get(id) else { return };
        let image = Arc::new(self.describe(&entry.record, &entry.config));
        if let Some(entry) = self.images.get_mut(id) {
            entry.image = image;
        }
    }

    fn describe(&self, record: &ImageRecord, config: &ImageConfiguration) -> Image {
        let names = self
            .names
            .iter()
            .filter(|(_, id)| **id == record.id)
            .map(|(name, _)| name.clone());
        let (repo_digests, repo_tags): (Vec<_>, Vec<_>) = names.partition(|name| name.contains('@'));
        let is_pinned = |name: &String| self.pinned.iter().any(|pattern| fits(pattern, name));
        Image {
            id: record.id.to_string(),
            pinned: repo_tags.iter().chain(&repo_digests).any(is_pinned),
            repo_tags,
            repo_digests,
            size: record.size,
            config: config.clone(),
            annotations: record.annotations.clone(),
            manifest_digest: record.manifest,
            layers: record.layers.clone(),
        }
    }

    fn view(&self, image: &ImageRecord) -> Result<Stack> {
        let mut view = Stack {
            root: DEFAULT_ROOT,
            lowers: Vec::new(),
        };
        let mut root = None;
        for diff_id in image.fix.iter().chain(image.layers.iter().rev()) {
            let missing = || Error::NoSuchImage {
                key: diff_id.to_string(),
            };
            let record = &self.layers.get(diff_id).ok_or_else(missing)?.record;
            root = root.or(record.root);
            // The kernel refuses the same folder twice, and the lower one adds nothing that the upper has not.
            if !view.lowers.contains(diff_id) {
                view.lowers.push(*diff_id);
            }
            if record.opaque_root {
                break;
            }
        }
        view.root = root.unwrap_or(DEFAULT_ROOT);
        Ok(view)
    }
}

/// Each layer once: an image may have the same layer several times, and holds it once.
pub(super) fn unique(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut unique = diff_ids.to_vec();
    unique.sort_unstable();
    unique.dedup();
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(opaque_root: bool, mode: Option<u32>) -> LayerRecord {
        let root = mode.map(|mode| RootAttributes { mode, uid: 0, gid: 0 });
        LayerRecord {
            bytes: 4096,
            inodes: 1,
            root,
            opaque_root,
            ..LayerRecord::default()
        }
    }

    fn state(layers: &[(&Digest, LayerRecord)]) -> State {
        let mut state = State::default();
        for (diff_id, record) in layers {
            state.add_layer(**diff_id, record.clone(), None);
        }
        state
    }

    #[test]
    fn counts_references() {
        let a = Digest::of(b"a");
        let mut state = state(&[(&a, record(false, None))]);
        assert!(state.hold(&a));
        assert!(!state.hold(&Digest::of(b"b")));
        assert!(state.let_go(&[a]).is_empty());
        assert_eq!(
            state.usage,
            Usage {
                bytes: 4096,
                inodes: 1
            }
        );
        assert_eq!(state.let_go(&[a]).len(), 1);
        assert_eq!(state.usage, Usage::default());
    }

    #[test]
    fn views() {
        let [a, b, c] = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
        let state = state(&[
            (&a, record(false, Some(0o700))),
            (&b, record(true, None)),
            (&c, record(false, None)),
        ]);
        let image = |layers: &[Digest], fix| ImageRecord {
            id: a,
            manifest: a,
            content: Vec::new(),
            layers: layers.to_vec(),
            fix,
            size: 0,
            annotations: BTreeMap::new(),
        };
        let view = |layers: &[Digest]| state.view(&image(layers, None)).unwrap();
        assert_eq!(state.view(&image(&[a], Some(c))).unwrap().lowers, [c, a]);
        assert_eq!(view(&[a, c]).lowers, [c, a]);
        assert_eq!(view(&[a, c]).root.mode, 0o700);
        assert_eq!(view(&[a, b, c]).lowers, [c, b]);
        assert_eq!(view(&[a, b, c]).root, DEFAULT_ROOT);
        assert_eq!(view(&[c, a, c]).lowers, [c, a]);
        assert!(view(&[]).lowers.is_empty());
        assert!(state.view(&image(&[Digest::of(b"d")], None)).is_err());
    }
}
