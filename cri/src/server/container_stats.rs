//! ContainerStats and ListContainerStats.

use std::sync::Arc;

use super::filter::{id_matches, labels_match};
use crate::core::Core;
use crate::error::Result;
use crate::proto::{
    ContainerStats, ContainerStatsFilter, ContainerStatsRequest, ContainerStatsResponse,
    ListContainerStatsRequest, ListContainerStatsResponse,
};
use crate::stats;
use crate::task::blocking;

pub(super) async fn container_stats(
    core: &Arc<Core>,
    request: ContainerStatsRequest,
) -> Result<ContainerStatsResponse> {
    let container = core.container(&request.container_id)?;
    let core = Arc::clone(core);
    let stats = blocking("reading statistics", move || stats::container(&core, &container)).await?;
    Ok(ContainerStatsResponse { stats: Some(stats) })
}

pub(super) async fn list_container_stats(
    core: &Arc<Core>,
    request: ListContainerStatsRequest,
) -> Result<ListContainerStatsResponse> {
    let stats = list(core, request.filter).await?;
    Ok(ListContainerStatsResponse { stats })
}

/// The statistics of the living containers that a filter admits.
pub(super) async fn list(
    core: &Arc<Core>,
    filter: Option<ContainerStatsFilter>,
) -> Result<Vec<ContainerStats>> {
    let filter = filter.unwrap_or_default();
    let mut containers = core.containers.all();
    containers.retain(|container| {
        container.visible()
            && id_matches(&filter.id, &container.id)
            && id_matches(&filter.pod_sandbox_id, &container.pod_id)
            && labels_match(&filter.label_selector, &container.cell.get().config.labels)
    });
    let core = Arc::clone(core);
    blocking("reading statistics", move || {
        Ok::<_, crate::error::Error>(stats::containers(&core, &containers))
    })
    .await
}
