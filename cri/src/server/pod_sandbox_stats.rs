//! PodSandboxStats and ListPodSandboxStats.

use std::sync::Arc;

use super::filter::{id_matches, labels_match};
use crate::core::Core;
use crate::error::Result;
use crate::proto::{
    ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, PodSandboxStats, PodSandboxStatsFilter,
    PodSandboxStatsRequest, PodSandboxStatsResponse,
};
use crate::stats;
use crate::task::blocking;

pub(super) async fn pod_sandbox_stats(
    core: &Arc<Core>,
    request: PodSandboxStatsRequest,
) -> Result<PodSandboxStatsResponse> {
    let pod = core.pod(&request.pod_sandbox_id)?;
    let core = Arc::clone(core);
    let stats = blocking("reading statistics", move || stats::pod(&core, &pod)).await?;
    Ok(PodSandboxStatsResponse { stats: Some(stats) })
}

pub(super) async fn list_pod_sandbox_stats(
    core: &Arc<Core>,
    request: ListPodSandboxStatsRequest,
) -> Result<ListPodSandboxStatsResponse> {
    let stats = list(core, request.filter).await?;
    Ok(ListPodSandboxStatsResponse { stats })
}

/// The statistics of the ready pods that a filter admits.
pub(super) async fn list(
    core: &Arc<Core>,
    filter: Option<PodSandboxStatsFilter>,
) -> Result<Vec<PodSandboxStats>> {
    let filter = filter.unwrap_or_default();
    let mut pods = core.pods.all();
    pods.retain(|pod| {
        pod.visible()
            && id_matches(&filter.id, &pod.id)
            && labels_match(&filter.label_selector, &pod.cell.get().config.labels)
    });
    let core = Arc::clone(core);
    blocking("reading statistics", move || stats::pods(&core, &pods)).await
}
