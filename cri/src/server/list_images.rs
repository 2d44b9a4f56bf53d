//! ListImages.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::images::to_proto;
use crate::proto::{ListImagesRequest, ListImagesResponse};

pub(super) async fn list_images(core: &Arc<Core>, request: ListImagesRequest) -> Result<ListImagesResponse> {
    let wanted = request
        .filter
        .and_then(|filter| filter.image)
        .map(|spec| spec.image)
        .unwrap_or_default();
    let images = if wanted.is_empty() {
        core.images.list()
    } else {
        core.images.get(&wanted)?.into_iter().collect()
    };
    Ok(ListImagesResponse {
        images: images.iter().map(|image| to_proto(image)).collect(),
    })
}
