//! ListContainers, from memory: kubelet asks each second.

use std::sync::Arc;

use super::filter::{id_matches, labels_match};
use crate::container::ContainerRecord;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{Container, ContainerFilter, ListContainersRequest, ListContainersResponse};

pub(super) async fn list_containers(
    core: &Arc<Core>,
    request: ListContainersRequest,
) -> Result<ListContainersResponse> {
    let filter = request.filter.unwrap_or_default();
    let containers = core.containers.all();
    let shown = containers
        .iter()
        .filter(|container| container.visible())
        .map(|container| container.cell.get());
    Ok(ListContainersResponse {
        containers: shown
            .filter(|record| matches(&filter, record))
            .map(|record| item(&record))
            .collect(),
    })
}

fn matches(filter: &ContainerFilter, record: &ContainerRecord) -> bool {
    id_matches(&filter.id, &record.id)
        && id_matches(&filter.pod_sandbox_id, &record.pod_id)
        && filter
            .state
            .is_none_or(|wanted| wanted.state == record.state.to_proto() as i32)
        && labels_match(&filter.label_selector, &record.config.labels)
}

fn item(record: &ContainerRecord) -> Container {
    Container {
        id: record.id.clone(),
        pod_sandbox_id: record.pod_id.clone(),
        metadata: record.config.metadata.clone(),
        image: record.config.image.clone(),
        image_ref: record.image_ref.clone(),
        state: record.state.to_proto() as i32,
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        image_id: record.image_id.clone(),
    }
}
