//! ReopenContainerLog: kubelet has renamed the log, and wants the new one to exist when this answers.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::proto::{ReopenContainerLogRequest, ReopenContainerLogResponse};

pub(super) async fn reopen_container_log(
    core: &Arc<Core>,
    request: ReopenContainerLogRequest,
) -> Result<ReopenContainerLogResponse> {
    let container = core.container(&request.container_id)?;
    container.must_run()?;
    core.pod(&container.pod_id)?
        .live_monitor()?
        .reopen_log(&container.id)
        .await?;
    Ok(ReopenContainerLogResponse {})
}
