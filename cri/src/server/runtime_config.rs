//! RuntimeConfig, which tells kubelet the cgroup driver, and UpdateRuntimeConfig, by which kubelet tells the pod CIDR.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::proto::{
    LinuxRuntimeConfiguration, RuntimeConfigRequest, RuntimeConfigResponse, UpdateRuntimeConfigRequest,
    UpdateRuntimeConfigResponse,
};
use crate::task::blocking;

pub(super) async fn get(core: &Arc<Core>, _: RuntimeConfigRequest) -> Result<RuntimeConfigResponse> {
    let driver = core.node.cgroup_driver as i32;
    Ok(RuntimeConfigResponse {
        linux: Some(LinuxRuntimeConfiguration {
            cgroup_driver: driver,
        }),
    })
}

pub(super) async fn update(
    core: &Arc<Core>,
    request: UpdateRuntimeConfigRequest,
) -> Result<UpdateRuntimeConfigResponse> {
    let network = request.runtime_config.and_then(|config| config.network_config);
    let cidrs = network.map(|network| network.pod_cidr).unwrap_or_default();
    if !cidrs.is_empty() {
        let core = Arc::clone(core);
        blocking("taking over the pod CIDR", move || {
            core.network.set_pod_cidr(&cidrs)
        })
        .await?;
    }
    Ok(UpdateRuntimeConfigResponse {})
}
