//! Pull and push, with progress.

use std::sync::Arc;

use pintle_images::Progress;

use super::{Stream, credentials, progress};
use crate::core::Core;
use crate::error::Result;
use crate::proto::admin::{Outcome, PullRequest, PushRequest, TransferEvent};

pub(super) fn pull(core: &Arc<Core>, request: PullRequest) -> Result<Stream<TransferEvent>> {
    let auth = credentials(request.auth)?;
    let (store, shown) = (core.images.clone(), Arc::new(Progress::default()));
    let told = Arc::clone(&shown);
    let work = async move {
        let request = pintle_images::PullRequest {
            reference: request.reference,
            auth,
        };
        let image = store.pull_with(request, told).await?;
        Ok(Outcome {
            image_ids: vec![image.id.clone()],
            ..Outcome::default()
        })
    };
    Ok(progress::follow(shown, work))
}

pub(super) fn push(core: &Arc<Core>, request: PushRequest) -> Result<Stream<TransferEvent>> {
    let auth = credentials(request.auth)?;
    let (store, shown) = (core.images.clone(), Arc::new(Progress::default()));
    let told = Arc::clone(&shown);
    let work = async move {
        let request = pintle_images::PushRequest {
            image: request.image,
            target: request.target,
            auth,
        };
        let pushed = store.push(request, Some(told)).await?;
        Ok(Outcome {
            digest: pushed.digest.to_string(),
            exact: pushed.exact,
            ..Outcome::default()
        })
    };
    Ok(progress::follow(shown, work))
}
