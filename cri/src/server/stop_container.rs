//! StopContainer: an unknown container is a stopped one.

use std::sync::Arc;
use std::time::Duration;

use super::filter::unless_unknown;
use crate::container;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::proto::{StopContainerRequest, StopContainerResponse};

/// The longest grace period: what Kubernetes can't mean in earnest is an error of arithmetic somewhere.
const LONGEST: i64 = 10 * 365 * 24 * 3600;

pub(super) async fn stop_container(
    core: &Arc<Core>,
    request: StopContainerRequest,
) -> Result<StopContainerResponse> {
    let grace = u64::try_from(request.timeout.min(LONGEST))
        .map_err(|_| Error::invalid("timeout", format!("{} is negative", request.timeout)))?;
    if let Some(target) = unless_unknown(core.container(&request.container_id))? {
        // Dropping this wait doesn't end the stop: that is a task of its own.
        container::stop(core, &target, Duration::from_secs(grace)).await?;
    }
    Ok(StopContainerResponse {})
}
