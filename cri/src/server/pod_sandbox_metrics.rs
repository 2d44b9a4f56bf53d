//! ListMetricDescriptors and ListPodSandboxMetrics.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::metrics;
use crate::proto::{
    ListMetricDescriptorsRequest, ListMetricDescriptorsResponse, ListPodSandboxMetricsRequest,
    ListPodSandboxMetricsResponse, PodSandboxMetrics,
};
use crate::task::blocking;

pub(super) async fn list_metric_descriptors(
    _: &Arc<Core>,
    _: ListMetricDescriptorsRequest,
) -> Result<ListMetricDescriptorsResponse> {
    Ok(ListMetricDescriptorsResponse {
        descriptors: metrics::descriptors(),
    })
}

pub(super) async fn list_pod_sandbox_metrics(
    core: &Arc<Core>,
    _: ListPodSandboxMetricsRequest,
) -> Result<ListPodSandboxMetricsResponse> {
    Ok(ListPodSandboxMetricsResponse {
        pod_metrics: list(core).await?,
    })
}

/// The metrics of all ready pods.
pub(super) async fn list(core: &Arc<Core>) -> Result<Vec<PodSandboxMetrics>> {
    let core = Arc::clone(core);
    blocking("reading metrics", move || metrics::collect(&core)).await
}
