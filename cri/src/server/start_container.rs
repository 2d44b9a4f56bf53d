//! StartContainer.

use std::sync::Arc;

use crate::container;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{StartContainerRequest, StartContainerResponse};
use crate::task::detached;

pub(super) async fn start_container(
    core: &Arc<Core>,
    request: StartContainerRequest,
) -> Result<StartContainerResponse> {
    let target = core.container(&request.container_id)?;
    let core = Arc::clone(core);
    detached("starting a container", async move {
        container::start(&core, &target).await
    })
    .await?;
    Ok(StartContainerResponse {})
}
