//! UpdatePodSandboxResources: kubelet has changed the pod's cgroup, which is its own; what it says of it is remembered.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::nri;
use crate::proto::{UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse};
use crate::task::blocking;

pub(super) async fn update_pod_sandbox_resources(
    core: &Arc<Core>,
    request: UpdatePodSandboxResourcesRequest,
) -> Result<UpdatePodSandboxResourcesResponse> {
    let pod = core.pod(&request.pod_sandbox_id)?;
    nri::update_pod(core, &pod, &request).await?;
    let changed = Arc::clone(&pod);
    blocking("recording a pod's resources", move || {
        changed.cell.update(|record| {
            let linux = record.config.linux.get_or_insert_default();
            // A part that isn't told stays.
            linux.overhead = request.overhead.or(linux.overhead.take());
            linux.resources = request.resources.or(linux.resources.take());
            Ok(())
        })
    })
    .await?;
    nri::post_update_pod(core, &pod).await;
    Ok(UpdatePodSandboxResourcesResponse {})
}
