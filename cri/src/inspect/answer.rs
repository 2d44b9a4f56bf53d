//! The answers, field by field as cAdvisor's client for CRI-O reads them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::container::{ContainerRecord, ContainerState};
use crate::core::Core;
use crate::pod::{PodRecord, PodState};

/// cAdvisor counts files itself for the drivers that it knows. Ours it doesn't: kubelet has those figures by the CRI.
const STORAGE_DRIVER: &str = "pintle";
/// By this label cAdvisor knows the entry that has the pod's network.
const NAME_LABEL: &str = "io.kubernetes.container.name";
/// The label's value for a pod's own entry.
const POD_NAME: &str = "POD";

/// The answer to `/info`.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    /// What keeps the images.
    storage_driver: &'static str,
    /// Where they are kept.
    storage_root: String,
    /// Empty: they are kept there all.
    storage_image: &'static str,
    /// `cgroupfs` or `systemd`.
    cgroup_driver: &'static str,
}

/// The answer to `/containers/<id>`.
#[derive(Debug, Serialize)]
pub(super) struct ContainerInfo {
    /// As CRI-O builds names: `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`.
    name: String,
    /// On the host; 0 while there is none, upon which cAdvisor asks again.
    pid: i32,
    image: String,
    image_ref: String,
    /// Nanoseconds since the epoch.
    created_time: i64,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    log_path: String,
    /// The folder of what the container writes.
    root: String,
    /// The id of its pod.
    sandbox: String,
    /// The pod's primary address.
    ip_address: String,
    ip_addresses: Vec<String>,
}

pub(super) fn info(core: &Core) -> Info {
    Info {
        storage_driver: STORAGE_DRIVER,
        storage_root: core.paths.images().display().to_string(),
        storage_image: "",
        cgroup_driver: match core.node.cgroup_driver {
            crate::proto::CgroupDriver::Systemd => "systemd",
            crate::proto::CgroupDriver::Cgroupfs => "cgroupfs",
        },
    }
}

/// What is known of a container or a pod; None where there is none of that id.
///
/// Also of one that is being made: cAdvisor asks as soon as there is a cgroup, before the CRI shows the container, and where it is told of
/// none it asks again after a minute.
pub(super) fn entry(core: &Core, id: &str) -> Option<ContainerInfo> {
    if let Some(container) = core.containers.get(id) {
        let pod = core.pods.get(&container.pod_id)?;
        return Some(of_container(core, &container.cell.get(), &pod.cell.get()));
    }
    let pod = core.pods.get(id)?;
    Some(of_pod(core, &pod.cell.get()))
}

fn of_container(core: &Core, record: &ContainerRecord, pod: &PodRecord) -> ContainerInfo {
    let lives = matches!(record.state, ContainerState::Created | ContainerState::Running);
    ContainerInfo {
        name: format!("k8s_{}", record.name),
        pid: if lives { record.pid } else { 0 },
        image: record.image_name.clone(),
        image_ref: record.image_ref.clone(),
        created_time: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        log_path: record.log_path.clone(),
        root: written_to(core, &record.id),
        sandbox: pod.id.clone(),
        ip_address: primary_address(pod),
        ip_addresses: addresses(pod),
    }
}

fn of_pod(core: &Core, pod: &PodRecord) -> ContainerInfo {
    let mut labels = pod.config.labels.clone();
    labels.insert(NAME_LABEL.to_owned(), POD_NAME.to_owned());
    let name = crate::pod::unique_name(&pod.metadata());
    ContainerInfo {
        name: format!("k8s_{POD_NAME}_{name}"),
        pid: network_pid(core, pod),
        image: String::new(),
        image_ref: String::new(),
        created_time: pod.created_at,
        labels,
        annotations: pod.config.annotations.clone(),
        log_path: pod.config.log_directory.clone(),
        root: String::new(),
        sandbox: pod.id.clone(),
        ip_address: primary_address(pod),
        ip_addresses: addresses(pod),
    }
}

/// A process in the pod's network: its own init where it has one, else that of the container which has run for longest;
/// 0 where there is none.
fn network_pid(core: &Core, pod: &PodRecord) -> i32 {
    if pod.state != PodState::Ready {
        return 0;
    }
    let init = core
        .sandbox_cgroup(pod)
        .ok()
        .and_then(|group| {
            pintle_runtime::cgroup::Handle::new(&group.path)
                .ok()?
                .processes()
                .ok()
        })
        .and_then(|pids| pids.first().copied());
    if let Some(init) = init {
        return init.as_raw();
    }
    let running = core
        .containers_of(&pod.id)
        .into_iter()
        .map(|container| container.cell.get());
    running
        .filter(|record| record.state == ContainerState::Running)
        .min_by_key(|record| record.started_at)
        .map_or(0, |record| record.pid)
}

/// The folder that holds the container's own layer.
fn written_to(core: &Core, id: &str) -> String {
    let snapshot = core.images.snapshot_of(id);
    let folder = snapshot.as_ref().and_then(|snapshot| snapshot.upper.parent());
    folder
        .map(|folder| folder.display().to_string())
        .unwrap_or_default()
}

fn addresses(pod: &PodRecord) -> Vec<String> {
    pod.ips.iter().map(ToString::to_string).collect()
}

fn primary_address(pod: &PodRecord) -> String {
    pod.ips.first().map(ToString::to_string).unwrap_or_default()
}
