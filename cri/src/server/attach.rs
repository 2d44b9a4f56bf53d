//! Attach: a URL by which a client gets the streams of a container's first process.

use std::sync::Arc;

use super::exec::check_streams;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{AttachRequest, AttachResponse};
use crate::streaming::Target;

pub(super) async fn attach(core: &Arc<Core>, request: AttachRequest) -> Result<AttachResponse> {
    let container = core.container(&request.container_id)?;
    check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
    container.must_run()?;
    let request = AttachRequest {
        container_id: container.id.clone(),
        ..request
    };
    Ok(AttachResponse {
        url: core.streaming.issue(Target::Attach(request))?,
    })
}
