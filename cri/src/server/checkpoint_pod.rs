//! CheckpointPod. The caller's deadline is the limit.

use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::MetadataMap;

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
    let limit = headers
        .get("grpc-timeout")
        .and_then(|value| deadline(value.to_str().ok()?));
    let limit =
        limit.ok_or_else(|| Error::invalid("grpc-timeout", "is missing: a checkpoint needs a deadline"))?;
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

/// At most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn deadline(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        assert_eq!(deadline("10S"), Some(Duration::from_secs(10)));
        assert_eq!(deadline("99999999u"), Some(Duration::from_micros(99_999_999)));
        for bad in ["", "S", "1", "1x", "123456789S", "-1S", "ä"] {
            assert_eq!(deadline(bad), None, "{bad}");
        }
    }
}
