//! The six lists that are answered in parts: StreamPodSandboxes, StreamContainers, StreamContainerStats,
//! StreamPodSandboxStats, StreamPodSandboxMetrics and StreamImages. Each is its unary twin's answer, taken as a whole and
//! cut into messages that are well below what a client receives.

use std::sync::Arc;

use prost::Message;
use tonic::Status;

use super::{
    container_stats, list_containers, list_images, list_pod_sandbox, pod_sandbox_metrics, pod_sandbox_stats,
};
use crate::core::Core;
use crate::error::Result;
use crate::proto::*;

/// A message holds no more items than this, and, unless it is one alone, no more bytes than [`MOST_BYTES`].
const MOST_ITEMS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

/// The parts of a list.
pub(super) type Parts<R> = tokio_stream::Iter<std::vec::IntoIter<Result<R, Status>>>;

/// Cuts a list up. An empty one has no parts.
fn parts<T: Message, R>(items: Vec<T>, wrap: impl Fn(Vec<T>) -> R) -> Parts<R> {
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for item in items {
        let length = item.encoded_len();
        if !part.is_empty() && (part.len() == MOST_ITEMS || bytes + length > MOST_BYTES) {
            parts.push(Ok(wrap(std::mem::take(&mut part))));
            bytes = 0;
        }
        bytes += length;
        part.push(item);
    }
    if !part.is_empty() {
        parts.push(Ok(wrap(part)));
    }
    tokio_stream::iter(parts)
}

pub(super) async fn pod_sandboxes(
    core: &Arc<Core>,
    request: StreamPodSandboxesRequest,
) -> Result<Parts<StreamPodSandboxesResponse>> {
    let request = ListPodSandboxRequest {
        filter: request.filter,
    };
    let items = list_pod_sandbox::list_pod_sandbox(core, request).await?.items;
    Ok(parts(items, |pod_sandboxes| StreamPodSandboxesResponse {
        pod_sandboxes,
    }))
}

pub(super) async fn containers(
    core: &Arc<Core>,
    request: StreamContainersRequest,
) -> Result<Parts<StreamContainersResponse>> {
    let request = ListContainersRequest {
        filter: request.filter,
    };
    let items = list_containers::list_containers(core, request).await?.containers;
    Ok(parts(items, |containers| StreamContainersResponse { containers }))
}

pub(super) async fn container_stats(
    core: &Arc<Core>,
    request: StreamContainerStatsRequest,
) -> Result<Parts<StreamContainerStatsResponse>> {
    let items = container_stats::list(core, request.filter).await?;
    Ok(parts(items, |container_stats| StreamContainerStatsResponse {
        container_stats,
    }))
}

pub(super) async fn pod_sandbox_stats(
    core: &Arc<Core>,
    request: StreamPodSandboxStatsRequest,
) -> Result<Parts<StreamPodSandboxStatsResponse>> {
    let items = pod_sandbox_stats::list(core, request.filter).await?;
    Ok(parts(items, |pod_sandbox_stats| StreamPodSandboxStatsResponse {
        pod_sandbox_stats,
    }))
}

pub(super) async fn pod_sandbox_metrics(
    core: &Arc<Core>,
    _: StreamPodSandboxMetricsRequest,
) -> Result<Parts<StreamPodSandboxMetricsResponse>> {
    let items = pod_sandbox_metrics::list(core).await?;
    Ok(parts(items, |pod_sandbox_metrics| {
        StreamPodSandboxMetricsResponse { pod_sandbox_metrics }
    }))
}

pub(super) async fn images(
    core: &Arc<Core>,
    request: StreamImagesRequest,
) -> Result<Parts<StreamImagesResponse>> {
    let request = ListImagesRequest {
        filter: request.filter,
    };
    let items = list_images::list_images(core, request).await?.images;
    Ok(parts(items, |images| StreamImagesResponse { images }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    async fn lengths(items: Vec<Container>) -> Vec<usize> {
        let parts = parts(items, |containers| StreamContainersResponse { containers });
        parts.map(|part| part.unwrap().containers.len()).collect().await
    }

    fn of_size(bytes: usize) -> Container {
        Container {
            id: "x".repeat(bytes),
            ..Container::default()
        }
    }

    #[tokio::test]
    async fn parts_are_never_empty_and_hold_every_item_once() {
        assert_eq!(lengths(Vec::new()).await, [0; 0]);
        assert_eq!(lengths(vec![of_size(10); 3]).await, [3]);
        assert_eq!(lengths(vec![of_size(10); 2_500]).await, [1000, 1000, 500]);
        let large = [
            of_size(10),
            of_size(3 << 20),
            of_size(10),
            of_size(700_000),
            of_size(700_000),
        ];
        assert_eq!(lengths(large.to_vec()).await, [1, 1, 2, 1]);
    }
}
