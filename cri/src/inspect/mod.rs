//! The inspection API: what cAdvisor, which is part of kubelet, asks CRI-O for, so that it knows our containers too.
//!
//! cAdvisor finds containers by their cgroups. Those whose names begin with `crio` it asks about on CRI-O's socket; all
//! others are nameless to it, and kubelet leaves them out of its metrics. So with this on, cgroups get that prefix, and
//! two requests are answered here, plain HTTP on a socket of its own:
//!
//! ```text
//! GET /info             once, when kubelet starts
//! GET /containers/<id>  once for each cgroup that appears; again and again while the answer has no pid
//! ```
//!
//! A pod has an entry too, by an empty cgroup under the pod's own: cAdvisor reads the pod's network statistics from
//! `/proc/<pid>/net/dev` of that entry's process, and keeps that pid as long as the cgroup stays. There is no pause
//! process to name, so it is told the container that has run for longest, and when another one comes to be that, the
//! empty cgroup is made anew, upon which cAdvisor asks anew ([`follow`]).

mod answer;
mod server;
mod socket;

use std::sync::Arc;

use crate::container::ContainerState;
use crate::core::Core;
use crate::error::Result;
use crate::events::Event;
use crate::pod::{Pod, PodState};
use crate::proto::ContainerEventType;
use crate::spec::cgroups;
use crate::task::blocking;

/// Begins the names of cgroups that cAdvisor takes for CRI-O's.
pub const CGROUP_PREFIX: &str = "crio";

/// Serves the API where the configuration wants it, until it is dropped. What keeps it from that is logged: the CRI goes on
/// without.
pub async fn serve(core: Arc<Core>) {
    let Some(path) = core.config.inspection_socket() else {
        return;
    };
    let socket = match socket::Socket::bind(path) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "cAdvisor can't be served; kubelet's metrics lack containers");
            return;
        }
    };
    tracing::info!(socket = %path.display(), "serving cAdvisor");
    tokio::join!(server::serve(&core, &socket), follow(&core));
}

/// Makes the cgroup by which cAdvisor finds a pod. Blocking.
///
/// With the systemd driver, too, it is a folder and no unit: a scope is gone without a process, and a slice can't have the name
/// that cAdvisor looks for. CRI-O does the same. The slice around it is systemd's, which leaves alone what lies in there
/// until the slice ends; where kubelet has made none, systemd is asked to.
///
/// # Errors
/// Whatever keeps it from being made.
pub fn make_entry(core: &Core, pod: &Pod) -> Result<()> {
    let record = pod.cell.get();
    if record.cgroup_prefix.is_empty() {
        return Ok(());
    }
    let path = core.sandbox_cgroup(&record)?.path;
    if cgroups::is_systemds(&record.cgroup_parent)
        && let Some((slice, _)) = path.rsplit_once('/')
    {
        pintle_runtime::cgroup::create_slice(slice)?;
    }
    Ok(pintle_runtime::cgroup::create(&path)?)
}

/// Takes care that cAdvisor asks again for pods whose process has become another one.
async fn follow(core: &Arc<Core>) {
    // A listener that fell behind begins anew: what it missed is made good by the pod's next event.
    while let Ok(mut events) = core.events.subscribe(None) {
        loop {
            match events.next().await {
                Ok(Some(event)) => renew(core, &event).await,
                Ok(None) => return,
                Err(_) => break,
            }
        }
    }
}

async fn renew(core: &Arc<Core>, event: &Event) {
    if !changes_process(event) {
        return;
    }
    let Some(pod) = core.pods.get(&event.pod.id) else {
        return;
    };
    let at = Arc::clone(core);
    let renewed = blocking("renewing a pod's entry", move || {
        let path = at.sandbox_cgroup(&pod.cell.get())?.path;
        let is_occupied = pintle_runtime::cgroup::Handle::new(&path)?
            .processes()
            .is_ok_and(|inside| !inside.is_empty());
        // A pod that is being stopped has its entry removed, which must not come back.
        if is_occupied || pod.state() != PodState::Ready {
            return Ok(());
        }
        pintle_runtime::cgroup::remove(&path)?;
        make_entry(&at, &pod)
    });
    if let Err(error) = renewed.await {
        tracing::debug!(pod = event.pod.id, %error, "a pod's entry could not be made anew");
    }
}

/// Whether the process that stands for the pod's network is another one after this event, and there is one.
fn changes_process(event: &Event) -> bool {
    if event.pod.cgroup_prefix.is_empty() || event.id == event.pod.id {
        return false;
    }
    let Some(about) = event.containers.iter().find(|container| container.id == event.id) else {
        return false;
    };
    let others = || {
        let running = |other: &&Arc<crate::container::ContainerRecord>| {
            other.id != event.id && other.state == ContainerState::Running
        };
        event.containers.iter().filter(running)
    };
    match event.kind {
        ContainerEventType::ContainerStartedEvent => others().count() == 0,
        ContainerEventType::ContainerStoppedEvent => {
            others().count() > 0 && others().all(|other| other.started_at >= about.started_at)
        }
        ContainerEventType::ContainerCreatedEvent | ContainerEventType::ContainerDeletedEvent => false,
    }
}
