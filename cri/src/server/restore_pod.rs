//! RestorePod.

use std::sync::Arc;

use crate::checkpoint;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{RestorePodRequest, RestorePodResponse};
use crate::task::detached;

pub(super) async fn restore_pod(core: &Arc<Core>, request: RestorePodRequest) -> Result<RestorePodResponse> {
    let core = Arc::clone(core);
    detached("restoring a pod", async move {
        checkpoint::restore_pod(&core, request).await
    })
    .await
}
