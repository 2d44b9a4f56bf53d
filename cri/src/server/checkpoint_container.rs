//! CheckpointContainer.

use std::sync::Arc;

use crate::checkpoint;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{CheckpointContainerRequest, CheckpointContainerResponse};
use crate::task::detached;

pub(super) async fn checkpoint_container(
    core: &Arc<Core>,
    request: CheckpointContainerRequest,
) -> Result<CheckpointContainerResponse> {
    let core = Arc::clone(core);
    detached("checkpointing a container", async move {
        checkpoint::checkpoint(&core, &request.container_id, &request.location, request.timeout).await
    })
    .await?;
    Ok(CheckpointContainerResponse {})
}
