//! RemovePodSandbox: an unknown sandbox is a removed one.

use std::sync::Arc;

use super::filter::unless_unknown;
use crate::core::Core;
use crate::error::Result;
use crate::pod;
use crate::proto::{RemovePodSandboxRequest, RemovePodSandboxResponse};
use crate::task::detached;

pub(super) async fn remove_pod_sandbox(
    core: &Arc<Core>,
    request: RemovePodSandboxRequest,
) -> Result<RemovePodSandboxResponse> {
    if let Some(pod) = unless_unknown(core.pod(&request.pod_sandbox_id))? {
        let core = Arc::clone(core);
        detached(
            "removing a pod sandbox",
            async move { pod::remove(&core, &pod).await },
        )
        .await?;
    }
    Ok(RemovePodSandboxResponse {})
}
