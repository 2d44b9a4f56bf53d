//! UpdateContainerResources.

use std::sync::Arc;

use crate::container;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{UpdateContainerResourcesRequest, UpdateContainerResourcesResponse};
use crate::task::detached;

pub(super) async fn update_container_resources(
    core: &Arc<Core>,
    request: UpdateContainerResourcesRequest,
) -> Result<UpdateContainerResourcesResponse> {
    let target = core.container(&request.container_id)?;
    let change = request.linux.unwrap_or_default();
    let core = Arc::clone(core);
    detached("changing limits", async move {
        container::update(&core, &target, change).await
    })
    .await?;
    Ok(UpdateContainerResourcesResponse {})
}
