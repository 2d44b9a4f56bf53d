//! PullImage. A caller that goes away cancels the pull: kubelet sets no deadline here.

use std::sync::Arc;

use pintle_images::PullRequest;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::images::credentials;
use crate::proto::{PullImageRequest, PullImageResponse};

pub(super) async fn pull_image(core: &Arc<Core>, request: PullImageRequest) -> Result<PullImageResponse> {
    let spec = request
        .image
        .ok_or_else(|| Error::invalid("image", "is missing"))?;
    if spec.image.is_empty() {
        return Err(Error::invalid("image.image", "is empty"));
    }
    core.handler(&spec.runtime_handler)?;
    let auth = request.auth.map(credentials).transpose()?.flatten();
    let image = core
        .images
        .pull(PullRequest {
            reference: spec.image,
            auth,
        })
        .await?;
    Ok(PullImageResponse {
        image_ref: image.id.clone(),
    })
}
