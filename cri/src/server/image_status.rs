//! ImageStatus: an image that isn't here is no error, just no image.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::images::to_proto;
use crate::proto::{ImageStatusRequest, ImageStatusResponse};

pub(super) async fn image_status(
    core: &Arc<Core>,
    request: ImageStatusRequest,
) -> Result<ImageStatusResponse> {
    let spec = request
        .image
        .ok_or_else(|| Error::invalid("image", "is missing"))?;
    let Some(image) = core.images.get(&spec.image)? else {
        return Ok(ImageStatusResponse::default());
    };
    let mut info = BTreeMap::new();
    if request.verbose {
        info.insert(
            "info".to_owned(),
            serde_json::json!({ "imageSpec": image.config }).to_string(),
        );
    }
    Ok(ImageStatusResponse {
        image: Some(to_proto(&image)),
        info,
    })
}
