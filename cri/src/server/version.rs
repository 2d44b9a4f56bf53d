//! Version: kubelet's first call.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::proto::{VersionRequest, VersionResponse};

/// Says who we are. `version` is the version of kubelet's own API, which has always been 0.1.0.
pub(super) async fn version(_: &Arc<Core>, _: VersionRequest) -> Result<VersionResponse> {
    Ok(VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: "pintle".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    })
}
