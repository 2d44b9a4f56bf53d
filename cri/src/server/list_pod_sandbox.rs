//! ListPodSandbox, from memory: kubelet asks each second.

use std::sync::Arc;

use super::filter::{id_matches, labels_match};
use crate::core::Core;
use crate::error::Result;
use crate::pod::PodRecord;
use crate::proto::{ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxFilter};

pub(super) async fn list_pod_sandbox(
    core: &Arc<Core>,
    request: ListPodSandboxRequest,
) -> Result<ListPodSandboxResponse> {
    let filter = request.filter.unwrap_or_default();
    let pods = core.pods.all();
    let shown = pods.iter().filter(|pod| pod.visible()).map(|pod| pod.cell.get());
    Ok(ListPodSandboxResponse {
        items: shown
            .filter(|record| matches(&filter, record))
            .map(|record| item(&record))
            .collect(),
    })
}

fn matches(filter: &PodSandboxFilter, record: &PodRecord) -> bool {
    id_matches(&filter.id, &record.id)
        && filter
            .state
            .is_none_or(|wanted| wanted.state == record.state.to_proto() as i32)
        && labels_match(&filter.label_selector, &record.config.labels)
}

fn item(record: &PodRecord) -> PodSandbox {
    PodSandbox {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: record.state.to_proto() as i32,
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.runtime_handler.clone(),
    }
}
