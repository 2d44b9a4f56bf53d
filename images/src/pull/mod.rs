//! Pulls an image: resolve → manifest → configuration → all layers side by side → commit.

mod bring;
mod decompress;
mod described;
mod layer;
mod network;
mod plain;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::auth::Auth;
use crate::crash;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::manifest::{self, Descriptor, ImageManifest, MAX_CONFIG, Manifest};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{Access, Session};
use crate::signature;
use crate::store::{Inner, Lease, Store};

pub(crate) use bring::bring_all;
pub(crate) use described::Described;
pub(crate) use layer::{LayerSource, Origin};

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
        self.start_pull(&request, None)?.run().await
    }

    /// Pulls as [`Store::pull`] does and tells meanwhile how far it is.
    ///
    /// # Errors
    /// Those of [`Store::pull`].
    pub async fn pull_with(&self, request: PullRequest, progress: Arc<Progress>) -> Result<Arc<Image>> {
        self.start_pull(&request, Some(progress))?.run().await
    }

    fn start_pull(&self, request: &PullRequest, progress: Option<Arc<Progress>>) -> Result<Pull> {
        let reference = Reference::parse(&request.reference)?;
        let registries = &self.inner.registries;
        let session = registries.session(&reference, request.auth.as_ref(), Access::Pull)?;
        Ok(Pull {
            inner: Arc::clone(&self.inner),
            reference,
            session: Arc::new(session),
            progress,
        })
    }
}

struct Pull {
    inner: Arc<Inner>,
    reference: Reference,
    session: Arc<Session>,
    progress: Option<Arc<Progress>>,
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
        let known = self.check_signature(known).await?;
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
        described.commit(&self.inner, self.names(&top), leases).await
    }

    /// Looks for the signatures that the policy wants, before anything is fetched. What is checked is what is pulled:
    /// the digest that comes back.
    async fn check_signature(&self, known: Option<Digest>) -> Result<Option<Digest>> {
        let Some(policy) = signature::policy(&self.inner.config, &self.reference)? else {
            return Ok(known);
        };
        let digest = match known {
            Some(digest) => digest,
            // The registry tells no digests: the manifest itself does.
            None => {
                let tag = self.reference.tag().unwrap_or("latest");
                self.session.manifest(tag, None).await?.digest
            }
        };
        signature::check(&policy, &self.session, &self.reference, &digest).await?;
        Ok(Some(digest))
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
                Manifest::Image(manifest) => {
                    return self.configured(*manifest, fetched.digest, content).await;
                }
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
        content: Vec<(Digest, Vec<u8>)>,
    ) -> Result<Described> {
        let config = manifest.config.digest(&manifest_digest)?;
        let bytes = self
            .session
            .small_blob(&config, manifest.config.size, MAX_CONFIG)
            .await?;
        let name = self.reference.to_string();
        Described::new(manifest, manifest_digest, bytes.to_vec(), content, &name)
    }

    async fn layers(&self, described: &Described) -> Result<Vec<Lease>> {
        let layers = described.manifest.layers.iter().zip(&described.diff_ids);
        let sources = layers
            .map(|(descriptor, diff_id)| self.source(descriptor, *diff_id, &described.manifest_digest))
            .collect::<Result<_>>()?;
        bring_all(&self.inner, sources).await
    }

    fn source(&self, descriptor: &Descriptor, diff_id: Digest, manifest: &Digest) -> Result<LayerSource> {
        let digest = descriptor.digest(manifest)?;
        Ok(LayerSource {
            origin: Origin::Registry {
                session: Arc::clone(&self.session),
                digest,
                size: descriptor.size,
                urls: descriptor.foreign_urls().to_vec(),
            },
            digest: Some(digest),
            diff_id,
            progress: self
                .progress
                .as_ref()
                .map(|progress| progress.add(digest, descriptor.size)),
        })
    }
}
