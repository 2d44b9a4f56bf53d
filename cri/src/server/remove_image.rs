//! RemoveImage: with all its tags; an unknown image is a removed one.

use std::sync::Arc;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::proto::{RemoveImageRequest, RemoveImageResponse};
use crate::task::detached;

pub(super) async fn remove_image(
    core: &Arc<Core>,
    request: RemoveImageRequest,
) -> Result<RemoveImageResponse> {
    let spec = request
        .image
        .ok_or_else(|| Error::invalid("image", "is missing"))?;
    let core = Arc::clone(core);
    detached("removing an image", async move {
        Ok(core.images.remove(&spec.image).await?)
    })
    .await?;
    Ok(RemoveImageResponse {})
}
