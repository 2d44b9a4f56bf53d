//! UpdateContainerResources: new limits for a container that lives or is about to. All of them, or none.

use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use pintle_runtime::cgroup::Handle;

use super::{Container, ContainerRecord, ContainerState};
use crate::core::Core;
use crate::error::{Error, Kind, Result};
use crate::proto::LinuxContainerResources;
use crate::spec::resources;
use crate::task::blocking;

/// Changes a container's limits; what `change` doesn't say stays. One that has exited only remembers them.
///
/// `oom_score_adj` is a matter of the start: it stays as it is, as in other runtimes.
///
/// # Errors
/// A value that can't be, a limit of memory below what is in use, and whatever the kernel refuses; the limits are then what
/// they were.
pub async fn update(
    core: &Arc<Core>,
    container: &Arc<Container>,
    change: LinuxContainerResources,
) -> Result<()> {
    // Not while it starts or is being removed.
    let _one_at_a_time = container.ops.lock().await;
    if core.containers.get(&container.id).is_none() {
        return Err(Error::NotFound {
            kind: Kind::Container,
            id: container.id.clone(),
        });
    }
    let (core, container) = (Arc::clone(core), Arc::clone(container));
    blocking("changing limits", move || {
        change_limits(&core, &container, &change)
    })
    .await
}

fn change_limits(core: &Core, container: &Container, change: &LinuxContainerResources) -> Result<()> {
    let record = container.cell.get();
    let wanted = LinuxContainerResources {
        oom_score_adj: record.resources.oom_score_adj,
        ..resources::update(&record.resources, change)
    };
    let limits = resources::to_oci(&wanted, &core.node)?;
    match record.state {
        ContainerState::Exited => return remember(container, wanted),
        ContainerState::Created | ContainerState::Running => {}
        ContainerState::Creating | ContainerState::Unknown => {
            return Err(Error::WrongState {
                kind: Kind::Container,
                id: container.id.clone(),
                state: record.state.word(),
                needed: "created or running",
            });
        }
    }
    apply(&record, &limits)?;
    remember(container, wanted).inspect_err(|_| {
        // The record says what is in force: without it the limits go back.
        let before = resources::to_oci(&record.resources, &core.node);
        let undone = before.map_err(Error::from).and_then(|before| apply(&record, &before));
        if let Err(error) = undone {
            tracing::warn!(container = container.id, %error, "limits that could not be recorded are in force");
        }
    })
}

fn apply(record: &ContainerRecord, limits: &LinuxResources) -> Result<()> {
    for warning in Handle::new(&record.cgroup)?.change(limits)? {
        tracing::warn!(container = record.id, warning, "a limit was passed over");
    }
    Ok(())
}

fn remember(container: &Container, resources: LinuxContainerResources) -> Result<()> {
    container.cell.update(|record| {
        record.resources = resources;
        Ok(())
    })
}
