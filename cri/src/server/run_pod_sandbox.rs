//! RunPodSandbox.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::pod;
use crate::proto::{RunPodSandboxRequest, RunPodSandboxResponse};

pub(super) async fn run_pod_sandbox(
    core: &Arc<Core>,
    request: RunPodSandboxRequest,
) -> Result<RunPodSandboxResponse> {
    let pod_sandbox_id = pod::run(core, request).await?;
    Ok(RunPodSandboxResponse { pod_sandbox_id })
}
