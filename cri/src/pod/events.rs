//! What a pod's monitor reports by itself.

use std::sync::Arc;

use pintle_runtime::client::Events;
use pintle_runtime::protocol::Event;

use super::{Pod, PodState};
use crate::container::{ContainerState, ExitRecord};
use crate::core::Core;

/// Listens to the monitor of `pod` in the background, for as long as the monitor lives.
pub fn follow(core: &Arc<Core>, pod: &Arc<Pod>, mut events: Events) {
    let (core, pod) = (Arc::clone(core), Arc::clone(pod));
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            apply(&core, &pod, event);
        }
        monitor_gone(&core, &pod).await;
    });
}

fn apply(core: &Core, pod: &Pod, event: Event) {
    match event {
        Event::ContainerExited { id, exit } => {
            if let Some(container) = core.containers.get(&id) {
                container.exit_reported(core, ExitRecord::of_process(&exit));
            }
        }
        Event::SandboxInitExited { .. } => {
            tracing::warn!(pod = pod.id, "the pod's init is gone");
            pod.no_longer_ready(core);
        }
        // Whoever waits for an exec learns of its end from its handle; other events are of newer monitors.
        _ => {}
    }
}

/// The monitor ended. If nobody asked it to, the pod's processes have lost their reaper and their logs: they are ended.
async fn monitor_gone(core: &Arc<Core>, pod: &Arc<Pod>) {
    let asked_to = pod.monitor().is_none();
    pod.set_monitor(None);
    if asked_to || pod.state() != PodState::Ready {
        return;
    }
    tracing::warn!(
        pod = pod.id,
        "the pod's monitor is gone: its containers are killed"
    );
    pod.no_longer_ready(core);
    for container in core.containers_of(&pod.id) {
        container.cell.note(|record| {
            record.state.transition(ContainerState::Unknown);
        });
        if let Err(error) = crate::container::kill(core, &container).await {
            tracing::warn!(container = container.id, %error, "an orphaned container is still there");
        }
    }
}
