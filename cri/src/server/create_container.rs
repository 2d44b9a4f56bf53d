//! CreateContainer.

use std::sync::Arc;

use crate::container;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{CreateContainerRequest, CreateContainerResponse};
use crate::task::detached;

pub(super) async fn create_container(
    core: &Arc<Core>,
    request: CreateContainerRequest,
) -> Result<CreateContainerResponse> {
    let core = Arc::clone(core);
    let create = async move { container::create(&core, request).await };
    let container_id = detached("creating a container", create).await?;
    Ok(CreateContainerResponse { container_id })
}
