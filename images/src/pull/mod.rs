//! Pulls an image: resolve → manifest → configuration → all layers side by side → commit.

mod chunks;
mod decompress;
mod layer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::image::ImageConfiguration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::auth::Auth;
use crate::crash;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::manifest::{self, Descriptor, ImageManifest, MAX_CONFIG, Manifest};
use crate::reference::Reference;
use crate::registry::Session;
use crate::store::{ImageRecord, Inner, Lease, NewImage, Store};

use layer::LayerSource;

/// How deep indexes may be nested.
const MAX_INDEXES: usize = 3;

/// What to pull, and as whom.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image, by tag or digest.
    pub reference: String,
    /// Credentials for the registry.
    pub auth: Option<Auth>,
}

impl Store {
    /// Pulls an image and returns once it is unpacked and durable. A tag is resolved anew each time; what is here
    /// already is not fetched. Dropping the future cancels the pull and leaves nothing of it.
    ///
    /// # Errors
    /// Whatever is wrong with the reference, the credentials, the registry, the image or the disk; nothing of the
    /// image is left then.
    pub async fn pull(&self, request: PullRequest) -> Result<Arc<Image>> {
        let reference = Reference::parse(&request.reference)?;
        let session = Arc::new(self.inner.registries.session(&reference, request.auth.as_ref())?);
        Pull {
            inner: Arc::clone(&self.inner),
            reference,
            session,
        }
        .run()
        .await
    }
}

struct Pull {
    inner: Arc<Inner>,
    reference: Reference,
    session: Arc<Session>,
}

/// An image as the registry describes it, before its layers.
struct Described {
    manifest: ImageManifest,
    manifest_digest: Digest,
    config: ImageConfiguration,
    config_digest: Digest,
    diff_ids: Vec<Digest>,
    /// Everything that led here, by digest.
    content: Vec<(Digest, Vec<u8>)>,
}

/// Tells blocking work of a dropped future to stop.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Pull {
    async fn run(self) -> Result<Arc<Image>> {
        let known = match self.reference.digest() {
            Some(digest) => Some(digest),
            None => {
                self.session
                    .resolve(self.reference.tag().unwrap_or("latest"))
                    .await?
            }
        };
        if let Some(image) = self.already_here(known).await? {
            return Ok(image);
        }
        let described = self.describe(known).await?;
        let top = described
            .content
            .first()
            .map_or(described.manifest_digest, |(digest, _)| *digest);
        crash::point("described");
        let leases = self.layers(&described).await?;
        crash::point("layers-unpacked");
        self.commit(described, self.names(&top), leases).await
    }

    /// The names that the image gets: the tag, if that is what was asked for, and the digest it stands for.
    fn names(&self, top: &Digest) -> Vec<String> {
        self.reference
            .tag_name()
            .into_iter()
            .chain([self.reference.digest_name(top)])
            .collect()
    }

    /// The image, if this repository's digest is known. A digest given by the caller is asked about all the same:
    /// whoever may not pull the image must not get it from here.
    async fn already_here(&self, known: Option<Digest>) -> Result<Option<Arc<Image>>> {
        let Some(digest) = known else { return Ok(None) };
        let inner = Arc::clone(&self.inner);
        let Some(id) = inner.id_by_name(&self.reference.digest_name(&digest)) else {
            return Ok(None);
        };
        if self.reference.digest().is_some() {
            self.session.resolve(&digest.to_string()).await?;
        }
        let names = self.names(&digest);
        let work = tokio::task::spawn_blocking(move || inner.name_image(&id, &names));
        work.await.map_err(|_| Error::Worker {
            what: "naming an image",
        })?
    }

    /// Fetches indexes, manifest and configuration.
    async fn describe(&self, known: Option<Digest>) -> Result<Described> {
        let mut content = Vec::new();
        let mut expected = known;
        for _ in 0..=MAX_INDEXES {
            let target = match expected {
                Some(digest) => digest.to_string(),
                None => self.reference.tag().unwrap_or("latest").to_owned(),
            };
            let fetched = self.session.manifest(&target, expected).await?;
            content.push((fetched.digest, fetched.bytes.to_vec()));
            match manifest::parse(&fetched.bytes, &fetched.digest, &fetched.content_type)? {
                Manifest::Image(manifest) => return self.configured(manifest, fetched.digest, content).await,
                Manifest::Index(manifests) => {
                    let (os, architecture) = manifest::platform();
                    let chosen = manifest::choose(manifests).ok_or_else(|| Error::NoPlatform {
                        reference: self.reference.to_string(),
                        platform: format!("{os}/{architecture}"),
                    })?;
                    expected = Some(chosen.digest(&fetched.digest)?);
                }
            }
        }
        let digest = content.first().map_or(Digest::of(b""), |(digest, _)| *digest);
        Err(Error::BadManifest {
            what: "index",
            digest,
            reason: "indexes are nested too deeply".to_owned(),
        })
    }

    async fn configured(
        &self,
        manifest: ImageManifest,
        manifest_digest: Digest,
        mut content: Vec<(Digest, Vec<u8>)>,
    ) -> Result<Described> {
        let config_digest = manifest.config.digest(&manifest_digest)?;
        let bytes = self
            .session
            .small_blob(&config_digest, manifest.config.size, MAX_CONFIG)
            .await?;
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
                reference: self.reference.to_string(),
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
        content.push((config_digest, bytes.to_vec()));
        Ok(Described {
            manifest,
            manifest_digest,
            config,
            config_digest,
            diff_ids,
            content,
        })
    }

    /// Brings all layers here, side by side. When one fails the others are stopped and nothing stays.
    async fn layers(&self, described: &Described) -> Result<Vec<Lease>> {
        let mut tasks = JoinSet::new();
        // Every piece of work holds a sender: when the receiver sees the end, nothing is being written any more.
        let (working, mut idle) = mpsc::channel::<()>(1);
        let mut started = Vec::new();
        for (descriptor, diff_id) in described.manifest.layers.iter().zip(&described.diff_ids) {
            if started.contains(diff_id) {
                continue;
            }
            started.push(*diff_id);
            let source = self.source(descriptor, *diff_id, &described.manifest_digest)?;
            let (inner, working) = (Arc::clone(&self.inner), working.clone());
            tasks.spawn(async move { source.bring(&inner, working).await });
        }
        drop(working);
        let mut leases = Vec::new();
        let mut failure = None;
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(lease)) => leases.push(lease),
                Ok(Err(error)) if failure.is_none() => failure = Some(error),
                Err(error) if error.is_panic() && failure.is_none() => {
                    failure = Some(Error::Worker {
                        what: "fetching a layer",
                    });
                }
                _ => {}
            }
            if failure.is_some() {
                tasks.abort_all();
            }
        }
        let Some(failure) = failure else { return Ok(leases) };
        let _ = idle.recv().await;
        give_up(leases).await;
        Err(failure)
    }

    fn source(&self, descriptor: &Descriptor, diff_id: Digest, manifest: &Digest) -> Result<LayerSource> {
        let digest = descriptor.digest(manifest)?;
        let urls = descriptor.foreign_urls().to_vec();
        Ok(LayerSource {
            session: Arc::clone(&self.session),
            digest,
            size: descriptor.size,
            diff_id,
            urls,
        })
    }

    async fn commit(
        &self,
        described: Described,
        names: Vec<String>,
        leases: Vec<Lease>,
    ) -> Result<Arc<Image>> {
        let Described {
            manifest,
            manifest_digest,
            config,
            config_digest,
            diff_ids,
            content,
        } = described;
        let compressed: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
        let record = ImageRecord {
            id: config_digest,
            manifest: manifest_digest,
            content: content.iter().map(|(digest, _)| *digest).collect(),
            layers: diff_ids,
            fix: None,
            size: compressed.saturating_add(manifest.config.size),
            annotations: manifest.annotations,
        };
        let new = NewImage {
            record,
            config,
            content,
            names,
            leases,
        };
        let inner = Arc::clone(&self.inner);
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let work = tokio::task::spawn_blocking(move || inner.commit(new, &cancelled));
        work.await.map_err(|_| Error::Worker {
            what: "recording an image",
        })?
    }
}

/// Lets layers go that no image will have, and waits until they are removed.
async fn give_up(leases: Vec<Lease>) {
    let work = tokio::task::spawn_blocking(move || leases.into_iter().try_for_each(Lease::release));
    match work.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "layers of a failed pull stay until the next start"),
        Err(_) => tracing::warn!("removing the layers of a failed pull ended unexpectedly"),
    }
}
