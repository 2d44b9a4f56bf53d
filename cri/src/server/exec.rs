//! Exec: a URL by which a client runs a command in a container, with its streams.

use std::sync::Arc;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::proto::{ExecRequest, ExecResponse};
use crate::streaming::Target;

pub(super) async fn exec(core: &Arc<Core>, request: ExecRequest) -> Result<ExecResponse> {
    let container = core.container(&request.container_id)?;
    if request.cmd.is_empty() {
        return Err(Error::invalid("cmd", "is empty"));
    }
    check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
    container.must_run()?;
    let request = ExecRequest {
        container_id: container.id.clone(),
        ..request
    };
    Ok(ExecResponse {
        url: core.streaming.issue(Target::Exec(request))?,
    })
}

/// What exec and attach alike can't be asked for.
pub(super) fn check_streams(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<()> {
    if tty && stderr {
        return Err(Error::invalid("stderr", "a terminal has no standard error apart"));
    }
    if !(stdin || stdout || stderr) {
        return Err(Error::invalid(
            "stdin, stdout, stderr",
            "one of them must be asked for",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_can_and_can_not_be() {
        check_streams(false, true, true, false).unwrap();
        check_streams(true, false, false, true).unwrap();
        assert!(check_streams(true, true, true, true).is_err());
        assert!(check_streams(false, false, false, false).is_err());
    }
}
