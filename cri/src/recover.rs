//! What a new daemon does before it serves: it takes over what the former one left, however that one ended.
//!
//! Assumptions: a record was written before what it tells of was begun; monitors and containers live on without a
//! daemon; after a reboot none of them does. For each pod, with a time limit of its own so that one sick pod keeps
//! nobody else waiting:
//!
//! | record | found | then |
//! | --- | --- | --- |
//! | of another boot | – | not ready; its containers exited, nobody knows how |
//! | creating | – | the creation is undone |
//! | ready | a monitor | its containers are what the monitor says |
//! | ready | no monitor | not ready; its containers are killed |
//! | not ready | – | as it is; kubelet stops and removes it |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pintle_runtime::cgroup::Handle;
use pintle_runtime::client::MonitorClient;
use pintle_runtime::protocol::{ContainerState as Found, ContainerStatus as FoundStatus, KillScope};
use tokio::task::JoinSet;

use crate::container::{self, Container, ContainerState, ExitRecord};
use crate::core::Core;
use crate::error::Result;
use crate::pod::{self, Pod, PodState};
use crate::proto::PodSandboxConfig;
use crate::store::Cell;
use crate::sweep::sweep;

const PATIENCE: Duration = Duration::from_secs(30);
const SIGKILL: i32 = 9;

/// Takes over pods, containers, names and addresses. Sick pods are logged, and no reason not to serve.
///
/// # Errors
/// Only where the records can't be listed.
pub async fn recover(core: &Arc<Core>) -> Result<()> {
    load(core)?;
    let mut pods = JoinSet::new();
    for pod in core.pods.all() {
        let core = Arc::clone(core);
        pods.spawn(async move {
            let id = pod.id.clone();
            match tokio::time::timeout(PATIENCE, recover_pod(&core, &pod)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(pod = id, %error, "a pod could not be taken over as a whole");
                }
                Err(_) => tracing::warn!(pod = id, "taking over a pod takes too long; it is left as it is"),
            }
        });
    }
    while pods.join_next().await.is_some() {}
    sweep(core).await;
    core.containers
        .all()
        .iter()
        .for_each(|container| core.layers.refresh(container));
    Ok(())
}

fn load(core: &Arc<Core>) -> Result<()> {
    let pods = core.pod_records.load()?;
    let containers = core.container_records.load()?;
    for (id, error) in pods.broken.iter().chain(&containers.broken) {
        tracing::error!(id, %error, "a record is unreadable; what is left of its object is swept up");
    }
    for (id, _) in &pods.broken {
        let parent = core.cgroup_parent(&PodSandboxConfig::default(), id)?;
        if let Err(error) = core.remove_own_parent(&parent) {
            tracing::warn!(id, %error, "what is left of a pod's cgroup could not be removed");
        }
        core.pod_records.remove(id)?;
    }
    for (id, _) in &containers.broken {
        core.container_records.remove(id)?;
    }
    for record in pods.records {
        core.pod_names
            .reserve(&pod::unique_name(&record.metadata()), &record.id)?;
        let pod = Pod::new(Cell::loaded(&core.pod_records, record));
        core.pods.insert(&pod.id, Arc::clone(&pod));
    }
    for record in containers.records {
        core.container_names.reserve(&record.name, &record.id)?;
        let container = Container::new(Cell::loaded(&core.container_records, record));
        core.containers.insert(&container.id, Arc::clone(&container));
    }
    Ok(())
}

async fn recover_pod(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<()> {
    let record = pod.cell.get();
    let same_boot = record.boot_id == core.boot_id;
    let found = if same_boot {
        MonitorClient::connect(core.paths.pod(&pod.id).path()).await.ok()
    } else {
        None
    };
    match found {
        Some((monitor, events)) => {
            pod.set_monitor(Some(monitor.clone()));
            agree_with(core, pod, &monitor).await?;
            pod::follow(core, pod, events);
        }
        None => lost(core, pod, same_boot).await,
    }
    if record.state == PodState::Creating {
        tracing::info!(pod = pod.id, "undoing a creation that was cut off");
        return pod::remove(core, pod).await;
    }
    Ok(())
}

/// The monitor knows best.
async fn agree_with(core: &Arc<Core>, pod: &Pod, monitor: &MonitorClient) -> Result<()> {
    let state = monitor.state().await?;
    let mut known: HashMap<String, Found> = state.containers.into_iter().map(|c| (c.id.clone(), c)).collect();
    for container in core.containers_of(&pod.id) {
        let found = known.remove(&container.id);
        if container.state() == ContainerState::Creating {
            container::undo_create(core, &container).await?;
        } else if let Some(found) = found {
            agree(core, &container, &found);
        } else {
            container::kill_by_cgroup(core, &container).await;
        }
    }
    for id in known.into_keys() {
        tracing::warn!(
            pod = pod.id,
            container = id,
            "a container without a record is ended"
        );
        if let Err(error) = monitor.kill(&id, SIGKILL, KillScope::All).await {
            tracing::debug!(container = id, %error, "no signal delivered");
        }
        monitor.delete(&id).await?;
    }
    Ok(())
}

fn agree(core: &Core, container: &Container, found: &Found) {
    thaw(container);
    container.cell.note(|record| {
        record.pid = found.pid;
        if let Some(started_at) = found.started_at {
            record.started_at = started_at;
            record.state.transition(ContainerState::Running);
        }
    });
    if let (FoundStatus::Exited, Some(exit)) = (found.status, &found.exit) {
        container.note_exit(core, ExitRecord::of_process(exit));
    }
}

/// Whoever stopped it to checkpoint it may have been killed with the former daemon.
fn thaw(container: &Container) {
    let record = container.cell.get();
    if let Ok(group) = Handle::new(&record.cgroup)
        && group.is_frozen()
        && let Err(error) = group.freeze(false)
    {
        tracing::warn!(container = container.id, %error, "a container that stands still can't be made to go on");
    }
}

/// No monitor: whatever the pod ran is gone, or is ended now.
async fn lost(core: &Arc<Core>, pod: &Arc<Pod>, same_boot: bool) {
    if pod.state() == PodState::Ready {
        pod.no_longer_ready(core);
    }
    for container in core.containers_of(&pod.id) {
        match container.state() {
            ContainerState::Creating => {
                if let Err(error) = container::undo_create(core, &container).await {
                    tracing::warn!(container = container.id, %error, "a creation that was cut off is not undone yet");
                }
            }
            ContainerState::Exited => {}
            _ if same_boot => container::kill_by_cgroup(core, &container).await,
            _ => container.note_exit(
                core,
                ExitRecord::unknown(crate::time::now(), "the node was rebooted"),
            ),
        }
    }
}
