//! PodSandboxStatus, from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::container_status;
use crate::core::Core;
use crate::error::Result;
use crate::pod::{Pod, PodRecord};
use crate::proto::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandboxNetworkStatus, PodSandboxStatus,
    PodSandboxStatusRequest, PodSandboxStatusResponse,
};

pub(super) async fn pod_sandbox_status(
    core: &Arc<Core>,
    request: PodSandboxStatusRequest,
) -> Result<PodSandboxStatusResponse> {
    let pod = core.pod(&request.pod_sandbox_id)?;
    // Before the look: what happens after it is told by a later event.
    let timestamp = core.events.now();
    let record = pod.cell.get();
    let containers = core.containers_of(&pod.id);
    Ok(PodSandboxStatusResponse {
        status: Some(status(&record)),
        info: if request.verbose {
            info(core, &pod, &record)
        } else {
            BTreeMap::new()
        },
        containers_statuses: containers
            .iter()
            .filter(|container| container.visible())
            .map(|container| container_status::status(&container.cell.get()))
            .collect(),
        timestamp,
    })
}

pub(super) fn status(record: &PodRecord) -> PodSandboxStatus {
    let mut ips = record.ips.iter().map(ToString::to_string);
    PodSandboxStatus {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: record.state.to_proto() as i32,
        created_at: record.created_at,
        network: Some(PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        }),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace {
                options: Some(record.namespace_options()),
            }),
        }),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.runtime_handler.clone(),
    }
}

/// What `crictl inspectp` shows besides. `pid` is the monitor's: the sandbox has no process of its own to name.
fn info(core: &Core, pod: &Pod, record: &PodRecord) -> BTreeMap<String, String> {
    let info = serde_json::json!({
        "pid": pod.monitor().map_or(0, |monitor| monitor.pid()),
        "config": record.config,
        "runtimeHandler": record.runtime_handler,
        "cgroupParent": record.cgroup_parent,
        "network": record.network,
        "stateDir": core.paths.pod(&record.id).path(),
        "runtimeSpec": {
            "hostname": record.config.hostname,
            "annotations": record.config.annotations,
            "linux": {
                "cgroupsPath": core.sandbox_cgroup(record).ok().map(|group| group.oci),
                "namespaces": namespaces(core, record),
            },
        },
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

/// The pod's pinned namespaces, in the runtime spec's words: network tools look for the path of `network`.
fn namespaces(core: &Core, record: &PodRecord) -> Vec<serde_json::Value> {
    let dir = core.paths.pod(&record.id);
    let kinds = [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("user", "user"),
        ("pid", "pid"),
    ];
    let pinned = kinds.into_iter().map(|(kind, file)| (kind, dir.namespace(file)));
    pinned
        .filter(|(_, path)| path.exists())
        .map(|(kind, path)| serde_json::json!({ "type": kind, "path": path }))
        .collect()
}
