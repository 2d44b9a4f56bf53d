//! Pods and containers as plugins see them. Pure functions over records and specs.

mod resources;
mod spec;

use std::path::Path;

use oci_spec::runtime::Spec;

pub(super) use resources::from_cri;
pub(super) use spec::namespace;

use crate::container::{ContainerRecord, ContainerState};
use crate::pod::PodRecord;
use crate::proto::nri::{
    CdiDevice, Container, ContainerState as State, Image, LinuxNamespace, LinuxPodSandbox, PodSandbox,
    SecurityProfile,
};

/// The kinds of namespaces that a pod may own, by the names of their files and of the runtime specification.
const POD_NAMESPACES: [(&str, &str); 5] = [
    ("net", "network"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("pid", "pid"),
    ("user", "user"),
];

/// A pod; `ns_dir` is the folder of its pinned namespaces, `cgroup` the place of its first process, should it have one.
pub(super) fn pod(record: &PodRecord, ns_dir: &Path, cgroup: &str) -> PodSandbox {
    let metadata = record.metadata();
    let linux = record.config.linux.as_ref();
    let pinned = POD_NAMESPACES
        .iter()
        .map(|(file, kind)| (ns_dir.join(file), kind));
    let namespaces = pinned
        .filter(|(path, _)| path.exists())
        .map(|(path, kind)| LinuxNamespace {
            r#type: (*kind).to_owned(),
            path: path.display().to_string(),
        })
        .collect();
    PodSandbox {
        id: record.id.clone(),
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.runtime_handler.clone(),
        linux: Some(LinuxPodSandbox {
            pod_overhead: linux.and_then(|linux| linux.overhead.as_ref()).map(from_cri),
            pod_resources: linux.and_then(|linux| linux.resources.as_ref()).map(from_cri),
            cgroup_parent: record.cgroup_parent.clone(),
            cgroups_path: cgroup.to_owned(),
            namespaces,
            resources: None,
        }),
        // There is no process that stands for a pod.
        pid: 0,
        ips: record.ips.iter().map(ToString::to_string).collect(),
    }
}

/// A container; without a spec as much as its record tells.
pub(super) fn container(record: &ContainerRecord, oci: Option<&Spec>) -> Container {
    let exit = record.exit.as_ref();
    let mut container = oci.map(spec::parts).unwrap_or_default();
    container.id.clone_from(&record.id);
    container.pod_sandbox_id.clone_from(&record.pod_id);
    container.name = record.metadata().name;
    container.state = state(record.state) as i32;
    container.labels.clone_from(&record.config.labels);
    container.annotations.extend(record.config.annotations.clone());
    container.pid = u32::try_from(record.pid).unwrap_or(0);
    container.created_at = record.created_at;
    container.started_at = record.started_at;
    container.finished_at = exit.map_or(0, |exit| exit.finished_at);
    container.exit_code = exit.map_or(0, |exit| exit.code);
    container.status_reason = exit.map(|exit| exit.reason.clone()).unwrap_or_default();
    container.status_message = exit.map(|exit| exit.message.clone()).unwrap_or_default();
    container.cdi_devices = cdi_devices(record);
    container.image = Some(Image {
        name: record.image_name.clone(),
        digest: digest(&record.image_ref),
        config_digest: record.image_id.clone(),
    });
    container.linux.get_or_insert_default().seccomp_profile = seccomp(record);
    container
}

fn cdi_devices(record: &ContainerRecord) -> Vec<CdiDevice> {
    let devices = record.config.cdi_devices.iter();
    devices
        .map(|device| CdiDevice {
            name: device.name.clone(),
        })
        .collect()
}

fn digest(image_ref: &str) -> String {
    image_ref
        .split_once('@')
        .map(|(_, digest)| digest.to_owned())
        .unwrap_or_default()
}

fn seccomp(record: &ContainerRecord) -> Option<SecurityProfile> {
    let security = record.config.linux.as_ref()?.security_context.as_ref()?;
    let profile = security.seccomp.as_ref()?;
    Some(SecurityProfile {
        // The numbers are the same.
        profile_type: profile.profile_type,
        localhost_ref: profile.localhost_ref.clone(),
    })
}

fn state(state: ContainerState) -> State {
    match state {
        ContainerState::Creating | ContainerState::Unknown => State::ContainerUnknown,
        ContainerState::Created => State::ContainerCreated,
        ContainerState::Running => State::ContainerRunning,
        ContainerState::Exited => State::ContainerStopped,
    }
}
