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
    // dropped with this future when the caller goes
    let caller = checkpoint::Caller::new();
    let interest = caller.interest();
    detached("checkpointing a container", async move {
        let (id, location) = (&request.container_id, &request.location);
        checkpoint::checkpoint(&core, id, location, request.timeout, &interest).await
    })
    .await?;
    Ok(CheckpointContainerResponse {})
}
