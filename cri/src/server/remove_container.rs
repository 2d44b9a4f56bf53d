//! RemoveContainer: an unknown container is a removed one.

use std::sync::Arc;

use super::filter::unless_unknown;
use crate::container;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{RemoveContainerRequest, RemoveContainerResponse};
use crate::task::detached;

pub(super) async fn remove_container(
    core: &Arc<Core>,
    request: RemoveContainerRequest,
) -> Result<RemoveContainerResponse> {
    if let Some(target) = unless_unknown(core.container(&request.container_id))? {
        let core = Arc::clone(core);
        detached("removing a container", async move {
            container::remove(&core, &target).await
        })
        .await?;
    }
    Ok(RemoveContainerResponse {})
}
