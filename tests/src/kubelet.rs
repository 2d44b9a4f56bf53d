//! What a kubelet puts into its requests beyond what they must have, and the decisions by which it makes the next one:
//! for suites that play its sequences.

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{
    Container, ContainerConfig, ContainerFilter, ContainerState, ImageSpec, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxConfig, PodSandboxFilter, PodSandboxState,
};
use tonic::Status;

use crate::cri::Cri;
use crate::slot::Slot;
use crate::{cgroups, pod};

/// The label by which a kubelet finds what belongs to a pod of the API.
pub const UID: &str = "io.kubernetes.pod.uid";
/// The label with a container's name in its pod.
pub const CONTAINER: &str = "io.kubernetes.container.name";

/// A pod as a kubelet runs it: in a cgroup of its own that the kubelet has made, found by its labels.
pub fn pod(slot: &Slot, name: &str) -> Result<PodSandboxConfig> {
    let mut config = pod::pod(slot, name);
    let uid = uid(&config).to_owned();
    let labels = [
        ("io.kubernetes.pod.name", name),
        ("io.kubernetes.pod.namespace", "test"),
        (UID, &uid),
    ];
    config.labels = labels.map(|(key, value)| (key.into(), value.into())).into();
    config.annotations = [
        ("kubernetes.io/config.source".into(), "file".into()),
        ("kubernetes.io/config.seen".into(), "2026-01-02T03:04:05Z".into()),
    ]
    .into();
    let class = cgroups::child(&slot.cgroup(), "burstable");
    let cgroup = cgroups::child(&class, &format!("pod{uid}"));
    cgroups::create(&cgroup)?;
    config.linux.get_or_insert_default().cgroup_parent = cgroup;
    Ok(config)
}

/// The pod's uid.
pub fn uid(config: &PodSandboxConfig) -> &str {
    config.metadata.as_ref().map_or("", |metadata| &metadata.uid)
}

/// A container as a kubelet asks for it: the image by its id, beside it what the user wrote.
pub fn container(mut config: ContainerConfig, image: (&str, &str), attempt: u32) -> ContainerConfig {
    let (id, written) = image;
    config.image = Some(ImageSpec {
        image: id.into(),
        user_specified_image: written.into(),
        ..Default::default()
    });
    let metadata = config.metadata.get_or_insert_default();
    metadata.attempt = attempt;
    let name = metadata.name.clone();
    config.log_path = format!("{name}/{attempt}.log");
    config.labels = [(CONTAINER.to_owned(), name)].into();
    config.annotations = [
        ("io.kubernetes.container.restartCount".into(), attempt.to_string()),
        ("io.kubernetes.container.hash".into(), "5f2a9c01".into()),
    ]
    .into();
    config
}

/// The sandboxes of a pod, as the relisting finds them.
pub async fn sandboxes(cri: &Cri, uid: &str) -> Result<Vec<PodSandbox>, Status> {
    let filter = PodSandboxFilter {
        label_selector: [(UID.to_owned(), uid.to_owned())].into(),
        ..Default::default()
    };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    Ok(cri
        .runtime
        .clone()
        .list_pod_sandbox(request)
        .await?
        .into_inner()
        .items)
}

/// The containers of a sandbox, exited ones among them.
pub async fn containers(cri: &Cri, sandbox: &str) -> Result<Vec<Container>, Status> {
    let filter = ContainerFilter {
        pod_sandbox_id: sandbox.to_owned(),
        ..Default::default()
    };
    let request = ListContainersRequest { filter: Some(filter) };
    Ok(cri
        .runtime
        .clone()
        .list_containers(request)
        .await?
        .into_inner()
        .containers)
}

/// One turn of a kubelet's loop for a pod: it looks at what there is and does what is missing. What is neither running nor
/// ready is left behind, and another attempt made.
pub async fn sync(
    cri: &Cri,
    config: &PodSandboxConfig,
    wanted: &[ContainerConfig],
    image: (&str, &str),
) -> Result<(), Status> {
    let known = sandboxes(cri, uid(config)).await?;
    let mut config = config.clone();
    let ready = known.iter().find(|s| s.state() == PodSandboxState::SandboxReady);
    let sandbox = match ready {
        Some(sandbox) => sandbox.id.clone(),
        None => {
            let last = known
                .iter()
                .filter_map(|s| Some(s.metadata.as_ref()?.attempt))
                .max();
            config.metadata.get_or_insert_default().attempt = last.map_or(0, |last| last + 1);
            cri.run_pod(&config).await?
        }
    };
    let there = containers(cri, &sandbox).await?;
    for wanted in wanted {
        let name = wanted.metadata.as_ref().map(|m| &m.name);
        let of_that_name = || {
            there
                .iter()
                .filter(move |c| c.metadata.as_ref().map(|m| &m.name) == name)
        };
        if of_that_name().any(|c| c.state() == ContainerState::ContainerRunning) {
            continue;
        }
        let last = of_that_name()
            .filter_map(|c| Some(c.metadata.as_ref()?.attempt))
            .max();
        let next = container(wanted.clone(), image, last.map_or(0, |last| last + 1));
        let id = cri.create(&sandbox, &config, &next).await?;
        cri.start(&id).await?;
    }
    Ok(())
}

/// Ends a pod of the API in a kubelet's order: its containers with grace, its sandboxes twice, then all is removed, the
/// containers twice at once.
pub async fn delete(cri: &Cri, uid: &str, grace: i64) -> Result<()> {
    for sandbox in sandboxes(cri, uid).await? {
        let containers = containers(cri, &sandbox.id).await?;
        for container in &containers {
            cri.stop(&container.id, grace).await.context("StopContainer")?;
        }
        for _ in 0..2 {
            cri.stop_pod(&sandbox.id).await.context("StopPodSandbox")?;
        }
        for container in &containers {
            let (one, other) = tokio::join!(cri.remove(&container.id), cri.remove(&container.id));
            one.and(other).context("RemoveContainer twice at once")?;
            let status = cri.status(&container.id).await;
            ensure!(
                status.as_ref().is_err_and(|e| e.code() == tonic::Code::NotFound),
                "after removal: {status:?}"
            );
        }
        cri.remove_pod(&sandbox.id).await.context("RemovePodSandbox")?;
    }
    ensure!(sandboxes(cri, uid).await?.is_empty(), "still listed");
    Ok(())
}
