//! StopPodSandbox: an unknown sandbox is a stopped one.

use std::sync::Arc;

use super::filter::unless_unknown;
use crate::core::Core;
use crate::error::Result;
use crate::pod;
use crate::proto::{StopPodSandboxRequest, StopPodSandboxResponse};
use crate::task::detached;

pub(super) async fn stop_pod_sandbox(
    core: &Arc<Core>,
    request: StopPodSandboxRequest,
) -> Result<StopPodSandboxResponse> {
    if let Some(pod) = unless_unknown(core.pod(&request.pod_sandbox_id))? {
        let core = Arc::clone(core);
        detached(
            "stopping a pod sandbox",
            async move { pod::stop(&core, &pod).await },
        )
        .await?;
    }
    Ok(StopPodSandboxResponse {})
}
