//! An image as its manifest and configuration describe it, before its layers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::image::ImageConfiguration;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::manifest::{self, ImageManifest};
use crate::store::{ImageRecord, Inner, Lease, NewImage};

/// See the module's text.
pub(crate) struct Described {
    pub(crate) manifest: ImageManifest,
    pub(crate) manifest_digest: Digest,
    config: ImageConfiguration,
    config_digest: Digest,
    /// One for each layer, the base first.
    pub(crate) diff_ids: Vec<Digest>,
    /// Everything that led here, by digest.
    pub(crate) content: Vec<(Digest, Vec<u8>)>,
}

/// Tells blocking work of a dropped future to stop.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Described {
    /// Reads the configuration of `manifest`; `name` is for errors. `content` is what led to the manifest, with the
    /// manifest itself.
    pub(crate) fn new(
        manifest: ImageManifest,
        manifest_digest: Digest,
        bytes: Vec<u8>,
        mut content: Vec<(Digest, Vec<u8>)>,
        name: &str,
    ) -> Result<Described> {
        let config_digest = manifest.config.digest(&manifest_digest)?;
        let bad = |reason: String| Error::BadManifest {
            what: "image configuration",
            digest: config_digest,
            reason,
        };
        let config: ImageConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        let (os, architecture) = manifest::platform();
        if config.os().to_string() != os || config.architecture().to_string() != architecture {
            return Err(Error::NoPlatform {
                reference: name.to_owned(),
                platform: format!("{os}/{architecture}"),
            });
        }
        let parsed = config
            .rootfs()
            .diff_ids()
            .iter()
            .map(|diff_id| diff_id.to_string().parse::<Digest>());
        let diff_ids: Vec<Digest> = parsed
            .collect::<Result<_, _>>()
            .map_err(|error| bad(format!("rootfs.diff_ids: {error}")))?;
        if diff_ids.len() != manifest.layers.len() {
            return Err(bad(
                "rootfs.diff_ids does not fit the manifest's layers".to_owned()
            ));
        }
        content.push((config_digest, bytes));
        Ok(Described {
            manifest,
            manifest_digest,
            config,
            config_digest,
            diff_ids,
            content,
        })
    }

    /// Commits the image with its layers under `names`. Dropping the future stops it before it has happened.
    pub(crate) async fn commit(
        self,
        inner: &Arc<Inner>,
        names: Vec<String>,
        leases: Vec<Lease>,
    ) -> Result<Arc<Image>> {
        let compressed: u64 = self.manifest.layers.iter().map(|layer| layer.size).sum();
        let record = ImageRecord {
            id: self.config_digest,
            manifest: self.manifest_digest,
            content: self.content.iter().map(|(digest, _)| *digest).collect(),
            layers: self.diff_ids,
            fix: None,
            size: compressed.saturating_add(self.manifest.config.size),
            annotations: self.manifest.annotations,
        };
        let new = NewImage {
            record,
            config: self.config,
            content: self.content,
            names,
            leases,
        };
        let inner = Arc::clone(inner);
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let work = tokio::task::spawn_blocking(move || inner.commit(new, &cancelled));
        work.await.map_err(|_| Error::Worker {
            what: "recording an image",
        })?
    }
}
