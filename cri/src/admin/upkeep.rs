//! Verify, tag, untag, prune.

use std::collections::BTreeSet;
use std::sync::Arc;

use pintle_images::{LayerState, Verified};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Stream;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::proto::admin::{
    LayerHealth, PruneRequest, PruneResponse, TagRequest, TagResponse, UntagRequest, UntagResponse,
    VerifiedLayer, VerifyRequest,
};
use crate::task::{blocking, detached};

pub(super) fn verify(core: &Arc<Core>, request: VerifyRequest) -> Stream<VerifiedLayer> {
    let store = core.images.clone();
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let told = |layer: &Verified| {
            // A client that is gone is told nothing; the layers are read to the end all the same.
            drop(sender.blocking_send(Ok(shown(layer))));
        };
        if let Err(error) = store.verify(&request.images, told) {
            drop(sender.blocking_send(Err(Status::from(Error::from(error)))));
        }
    });
    ReceiverStream::new(receiver)
}

fn shown(layer: &Verified) -> VerifiedLayer {
    let (health, reason) = match &layer.state {
        LayerState::Whole => (LayerHealth::Whole, String::new()),
        LayerState::Damaged(reason) => (LayerHealth::Damaged, reason.clone()),
        LayerState::Unknown => (LayerHealth::Unknown, String::new()),
    };
    VerifiedLayer {
        diff_id: layer.diff_id.to_string(),
        health: health.into(),
        reason,
    }
}

pub(super) async fn tag(core: &Arc<Core>, request: TagRequest) -> Result<TagResponse> {
    let store = core.images.clone();
    let image = blocking("tagging an image", move || {
        store.tag(&request.image, &request.name)
    })
    .await?;
    Ok(TagResponse {
        image_id: image.id.clone(),
    })
}

pub(super) async fn untag(core: &Arc<Core>, request: UntagRequest) -> Result<UntagResponse> {
    let store = core.images.clone();
    let found = blocking("untagging an image", move || store.untag(&request.name)).await?;
    Ok(UntagResponse { found })
}

/// What a container was made from stays, whether it runs or not, and so does what is pinned.
pub(super) async fn prune(core: &Arc<Core>, request: PruneRequest) -> Result<PruneResponse> {
    let core = Arc::clone(core);
    detached("pruning images", async move {
        let records = core.containers.all();
        let used: BTreeSet<String> = records
            .iter()
            .map(|container| container.cell.get().image_id.clone())
            .collect();
        let before = core.images.usage().bytes;
        let mut image_ids = Vec::new();
        for image in core.images.list() {
            let is_wanted =
                image.pinned || used.contains(&image.id) || !(request.all || image.repo_tags.is_empty());
            if is_wanted {
                continue;
            }
            if !request.dry_run {
                core.images.remove(&image.id).await?;
            }
            image_ids.push(image.id.clone());
        }
        Ok(PruneResponse {
            image_ids,
            freed: before.saturating_sub(core.images.usage().bytes),
        })
    })
    .await
}
