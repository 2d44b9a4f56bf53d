//! PortForward: a URL by which a client connects to ports of a pod.

use std::sync::Arc;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::proto::{PortForwardRequest, PortForwardResponse};
use crate::streaming::Target;

pub(super) async fn port_forward(
    core: &Arc<Core>,
    request: PortForwardRequest,
) -> Result<PortForwardResponse> {
    let pod = core.pod(&request.pod_sandbox_id)?;
    if let Some(bad) = request.port.iter().find(|port| !(1..=65535).contains(*port)) {
        return Err(Error::invalid("port", format!("{bad} is no port")));
    }
    pod.must_be_ready()?;
    let request = PortForwardRequest {
        pod_sandbox_id: pod.id.clone(),
        ..request
    };
    Ok(PortForwardResponse {
        url: core.streaming.issue(Target::PortForward(request))?,
    })
}
