//! StopPodSandbox, RemovePodSandbox, and the undo of a RunPodSandbox that failed: one idempotent way down, taken to
//! its end whatever fails on it.

use std::sync::Arc;

use super::{Pod, PodNetworkRecord, PodState};
use crate::container;
use crate::container::ContainerState;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::events;
use crate::nri;
use crate::proto::ContainerEventType;
use crate::task::blocking;

/// Stops a sandbox: containers, monitor, network, namespaces. Its records stay.
///
/// # Errors
/// [`Error::Teardown`] names what could not be undone; another call goes on with it.
pub async fn stop(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<()> {
    let _one_at_a_time = pod.ops.lock().await;
    if core.pods.get(&pod.id).is_none() {
        return Ok(()); // it was removed meanwhile
    }
    take_down(core, pod).await
}

/// Stops a sandbox and removes it with its containers. Their logs stay.
///
/// # Errors
/// As [`stop`]; the sandbox then stays listed.
pub async fn remove(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<()> {
    let _one_at_a_time = pod.ops.lock().await;
    if core.pods.get(&pod.id).is_none() {
        return Ok(()); // another caller was faster
    }
    take_down(core, pod).await?;
    let mut left = Vec::new();
    for container in core.containers_of(&pod.id) {
        if let Err(error) = container::remove(core, &container).await {
            left.push(error.to_string());
        }
    }
    if !left.is_empty() {
        return Err(Error::Teardown(left));
    }
    nri::remove_pod(core, pod).await;
    let (at, what) = (Arc::clone(core), Arc::clone(pod));
    blocking("removing a pod", move || remove_files(&at, &what)).await?;
    pod.cell.delete()?;
    core.pods.remove(&pod.id);
    if pod.visible() {
        events::of_pod(core, ContainerEventType::ContainerDeletedEvent, pod);
    }
    let name = super::unique_name(&pod.cell.get().metadata());
    core.in_flight.forget(&name, &pod.id);
    core.pod_names.release(&name, &pod.id);
    Ok(())
}

/// The way down. The caller holds `ops`.
async fn take_down(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<()> {
    // First, so that a container that is being created meanwhile sees that its sandbox is going.
    if pod.state() == PodState::Ready {
        pod.no_longer_ready(core);
    }
    let mut left = end_containers(core, pod).await;
    if left.is_empty() {
        nri::stop_pod(core, pod).await;
    }
    end_monitor(pod, &mut left).await;
    if let Err(error) = detach_network(core, pod).await {
        left.push(error.to_string());
    }
    let dir = core.paths.pod(&pod.id);
    let unpinned = blocking("unpinning namespaces", move || -> Result<()> {
        pintle_runtime::sandbox::unpin(dir.path())?;
        pintle_runtime::sandbox::unmount(&dir.shm())?;
        Ok(())
    });
    if let Err(error) = unpinned.await {
        left.push(error.to_string());
    }
    if left.is_empty() {
        if let Err(error) = remove_entry(core, pod).await {
            left.push(error.to_string());
        } else {
            return Ok(());
        }
    }
    // What was never ready is shown only now, so that its undo can be asked for again.
    pod.cell.note(|record| {
        record.state.transition(PodState::NotReady);
    });
    Err(Error::Teardown(left))
}

async fn end_containers(core: &Arc<Core>, pod: &Arc<Pod>) -> Vec<String> {
    let mut ends = tokio::task::JoinSet::new();
    for container in core.containers_of(&pod.id) {
        if container.state() != ContainerState::Exited {
            let core = Arc::clone(core);
            ends.spawn(async move { container::kill(&core, &container).await });
        }
    }
    let mut left = Vec::new();
    while let Some(end) = ends.join_next().await {
        if let Err(error) = end.unwrap_or(Err(Error::Panicked("killing a container"))) {
            left.push(error.to_string());
        }
    }
    left
}

async fn end_monitor(pod: &Pod, left: &mut Vec<String>) {
    let Some(monitor) = pod.monitor() else { return };
    if !left.is_empty() {
        return; // something still runs that only the monitor can reap
    }
    pod.set_monitor(None);
    match monitor.shutdown().await {
        Err(error) => left.push(error.to_string()),
        Ok(()) => tracing::debug!(pod = pod.id, "the monitor has ended"),
    }
}

/// Without processes its cgroup is but cAdvisor's entry for it, which would show a pod that has ended.
async fn remove_entry(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<()> {
    let (at, what) = (Arc::clone(core), Arc::clone(pod));
    blocking("removing a pod's entry", move || -> Result<()> {
        let entry = at.sandbox_cgroup(&what.cell.get())?;
        Ok(pintle_runtime::cgroup::remove(&entry.path)?)
    })
    .await
}

async fn detach_network(core: &Arc<Core>, pod: &Pod) -> Result<()> {
    let record = pod.cell.get();
    if record.network == PodNetworkRecord::None {
        return Ok(());
    }
    core.network.detach(&record, &core.paths.pod(&pod.id)).await?;
    pod.cell.note(|record| record.network = PodNetworkRecord::None);
    Ok(())
}

fn remove_files(core: &Core, pod: &Pod) -> Result<()> {
    core.remove_cgroups(&pod.cell.get())?;
    container::remove_tree(core.paths.pod(&pod.id).path())
}
