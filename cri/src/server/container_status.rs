//! ContainerStatus, from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::container::ContainerRecord;
use crate::core::Core;
use crate::error::Result;
use crate::proto::{
    ContainerResources, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse, ContainerUser,
    ImageSpec, Mount,
};
use crate::spec::signal;

pub(super) async fn container_status(
    core: &Arc<Core>,
    request: ContainerStatusRequest,
) -> Result<ContainerStatusResponse> {
    let record = core.container(&request.container_id)?.cell.get();
    Ok(ContainerStatusResponse {
        status: Some(status(&record)),
        info: if request.verbose {
            info(core, &record)
        } else {
            BTreeMap::new()
        },
    })
}

pub(super) fn status(record: &ContainerRecord) -> ContainerStatus {
    let exit = record.exit.as_ref();
    ContainerStatus {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: record.state.to_proto() as i32,
        created_at: record.created_at,
        started_at: record.started_at,
        finished_at: exit.map_or(0, |exit| exit.finished_at),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: Some(ImageSpec {
            image: record.image_name.clone(),
            ..record.config.image.clone().unwrap_or_default()
        }),
        image_ref: record.image_ref.clone(),
        reason: exit.map(|exit| exit.reason.clone()).unwrap_or_default(),
        message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        mounts: record
            .config
            .mounts
            .iter()
            .map(|mount| shown(record, mount))
            .collect(),
        log_path: record.log_path.clone(),
        resources: Some(ContainerResources {
            linux: Some(record.resources.clone()),
            windows: None,
        }),
        image_id: record.image_id.clone(),
        user: Some(ContainerUser {
            linux: Some(record.user.clone()),
        }),
        stop_signal: signal::to_proto(record.stop_signal) as i32,
    }
}

/// A mount as it was asked for; an image volume with the image that it turned out to be.
fn shown(record: &ContainerRecord, mount: &Mount) -> Mount {
    let mut mount = mount.clone();
    if let Some(image) = &mut mount.image
        && let Some(id) = record.image_volumes.get(&image.image)
    {
        image.image_ref.clone_from(id);
    }
    mount
}

/// What `crictl inspect` shows besides; device plugins and test tools read `pid` and `runtimeSpec`.
fn info(core: &Core, record: &ContainerRecord) -> BTreeMap<String, String> {
    let spec = core
        .paths
        .pod(&record.pod_id)
        .bundle(&record.id)
        .join("config.json");
    let runtime_spec = std::fs::read(spec)
        .ok()
        .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let info = serde_json::json!({
        "sandboxID": record.pod_id,
        "pid": record.pid,
        "cgroup": record.cgroup_path(),
        "config": record.config,
        "runtimeSpec": runtime_spec,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
