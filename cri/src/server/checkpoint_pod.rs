//! CheckpointPod. The caller's deadline is the limit.

use std::sync::Arc;

use tonic::metadata::MetadataMap;

use super::deadline::{self, TIMEOUT};
use crate::checkpoint;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::proto::{CheckpointPodRequest, CheckpointPodResponse};
use crate::task::detached;

pub(super) async fn checkpoint_pod(
    core: &Arc<Core>,
    headers: &MetadataMap,
    request: CheckpointPodRequest,
) -> Result<CheckpointPodResponse> {
    let limit = headers.get(TIMEOUT).and_then(deadline::read);
    let limit = limit.ok_or_else(|| Error::invalid(TIMEOUT, "is missing: a checkpoint needs a deadline"))?;
    let core = Arc::clone(core);
    // dropped with this future when the caller goes
    let caller = checkpoint::Caller::new();
    let interest = caller.interest();
    detached("checkpointing a pod", async move {
        checkpoint::checkpoint_pod(&core, request, limit, &interest).await
    })
    .await?;
    Ok(CheckpointPodResponse {})
}
