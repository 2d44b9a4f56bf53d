//! Pushes an image: what the registry has already, what it can take over from a neighbour, what must be sent.
//!
//! The store keeps unpacked layers only, and how a layer was compressed can't be found out from that. So that an
//! image that was pulled keeps its digests, a compressed layer that the target lacks is asked for in this order:
//!
//! 1. from another repository of the same registry, which the registry mounts without sending anything;
//! 2. from a repository that the image was pulled from, streamed through to the target;
//! 3. made anew from the files. Then its digest, and the manifest's, are others, and [`Pushed::exact`] says so.

mod layer;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::auth::Auth;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{Access, Session, Upload};
use crate::store::{Inner, Store, Whole};

use layer::{LayerPush, Place, Sent};

/// How many layers are sent at once.
const AT_ONCE: usize = 3;

/// What to push, where to, and as whom.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The image, by anything that [`Store::get`] knows.
    pub image: String,
    /// The tag that it gets.
    pub target: String,
    /// Credentials for the target.
    pub auth: Option<Auth>,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of the manifest.
    pub digest: Digest,
    /// It is the manifest that the image was pulled with.
    pub exact: bool,
}

impl Store {
    /// Pushes an image, of this machine's platform. Layers that the registry has are not sent.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::LayerUnavailable`], and whatever is wrong with the registry.
    pub async fn push(&self, request: PushRequest, progress: Option<Arc<Progress>>) -> Result<Pushed> {
        let target = Reference::parse(&request.target)?;
        if target.digest().is_some() {
            return Err(Error::NotATag { name: request.target });
        }
        let (store, image) = (self.clone(), request.image.clone());
        let work = tokio::task::spawn_blocking(move || store.whole(&image));
        let whole = work.await.map_err(|_| Error::Worker {
            what: "looking for an image",
        })??;
        let session = self
            .inner
            .registries
            .session(&target, request.auth.as_ref(), Access::Push)?;
        let push = Push {
            inner: Arc::clone(&self.inner),
            session: Arc::new(session),
            target,
            whole: Arc::new(whole),
        };
        push.run(progress.as_deref()).await
    }
}

struct Push {
    inner: Arc<Inner>,
    session: Arc<Session>,
    target: Reference,
    whole: Arc<Whole>,
}

impl Push {
    async fn run(self, progress: Option<&Progress>) -> Result<Pushed> {
        let sent = self.layers(progress).await?;
        let config = (self.whole.config_digest, &self.whole.config_bytes);
        send_small(&self.session, config.0, config.1).await?;
        let (bytes, exact) = self.manifest(&sent)?;
        let digest = Digest::of(&bytes);
        let parsed: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let media_type = parsed["mediaType"].as_str().unwrap_or(manifest::OCI_MANIFEST);
        let tag = self.target.tag().unwrap_or("latest");
        self.session.put_manifest(tag, media_type, &bytes).await?;
        Ok(Pushed { digest, exact })
    }

    /// Sends the layers, a few at once; gives back what became of each, in order.
    async fn layers(&self, progress: Option<&Progress>) -> Result<Vec<Sent>> {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let origins = Arc::new(self.origins());
        let mut tasks = JoinSet::new();
        let layers = self.whole.manifest.layers.iter().zip(&self.whole.image.layers);
        for (number, (descriptor, diff_id)) in layers.enumerate() {
            let digest = descriptor.digest(&self.whole.image.manifest_digest)?;
            let push = LayerPush {
                inner: Arc::clone(&self.inner),
                session: Arc::clone(&self.session),
                digest,
                diff_id: *diff_id,
                size: descriptor.size,
                media_type: descriptor.media_type.clone(),
                is_foreign: descriptor.is_foreign(),
                domain: self.target.domain().to_owned(),
                origins: Arc::clone(&origins),
                progress: progress.map(|progress| progress.add(digest, descriptor.size)),
            };
            // The layers are held as long as their stream may be read.
            let (turns, whole) = (Arc::clone(&turns), Arc::clone(&self.whole));
            tasks.spawn(async move {
                let _whole = whole;
                let _turn = turns.acquire_owned().await;
                push.run().await.map(|sent| (number, sent))
            });
        }
        let mut sent = Vec::new();
        // Dropped at the first error, the set stops the others.
        while let Some(ended) = tasks.join_next().await {
            sent.push(ended.map_err(|_| Error::Worker {
                what: "pushing a layer",
            })??);
        }
        sent.sort_by_key(|(number, _)| *number);
        Ok(sent.into_iter().map(|(_, sent)| sent).collect())
    }

    /// The repositories that the image was pulled from.
    fn origins(&self) -> Vec<Place> {
        let image = &self.whole.image;
        let mut places: Vec<Place> = Vec::new();
        for name in image.repo_digests.iter().chain(&image.repo_tags) {
            if let Ok(reference) = Reference::parse(name)
                && reference.repository() != self.target.repository()
                && !places
                    .iter()
                    .any(|place| place.0.repository() == reference.repository())
            {
                places.push(Place(reference));
            }
        }
        places
    }

    /// The manifest to send, and whether it is the one that the image came with.
    fn manifest(&self, sent: &[Sent]) -> Result<(Vec<u8>, bool)> {
        let bytes = &self.whole.manifest_bytes;
        if sent.iter().all(|sent| matches!(sent, Sent::AsIs)) {
            return Ok((bytes.clone(), true));
        }
        let mut manifest: Value = serde_json::from_slice(bytes).map_err(|source| Error::Record {
            key: self.whole.image.manifest_digest.to_string(),
            source,
        })?;
        for (number, sent) in sent.iter().enumerate() {
            if let Sent::Anew { digest, size } = sent {
                let layer = &mut manifest["layers"][number];
                layer["digest"] = json!(digest);
                layer["size"] = json!(size);
            }
        }
        Ok((manifest.to_string().into_bytes(), false))
    }
}

/// Sends a blob that is in memory, unless it is there.
async fn send_small(session: &Session, digest: Digest, bytes: &[u8]) -> Result<()> {
    if session.has_blob(&digest).await? {
        return Ok(());
    }
    let Some(url) = session.begin_upload(None).await? else {
        return Ok(());
    };
    let (sender, receiver) = mpsc::channel(1);
    let upload = Upload {
        bytes: receiver,
        size: Some(bytes.len() as u64),
        sent: Arc::default(),
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let (sent, _) = tokio::join!(session.put_blob(url, &digest, upload), async move {
        sender.send(Ok(bytes)).await
    });
    sent
}
