//! UpdateContainerResources: new limits for a container that lives or is about to. All of them, or none.

use std::fs;
use std::sync::Arc;

use oci_spec::runtime::{LinuxResources, Spec};
use pintle_runtime::cgroup::Handle;

use super::{Container, ContainerRecord, ContainerState};
use crate::core::Core;
use crate::error::{Error, IoContext as _, Kind, Result};
use crate::nri;
use crate::proto::LinuxContainerResources;
use crate::proto::nri::LinuxResources as PluginLimits;
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
    {
        // Not while it starts or is being removed.
        let _one_at_a_time = container.ops.lock().await;
        must_be_there(core, container)?;
        let wanted = nri::update_container(core, container, &change).await?;
        change_in_force(core, container, change, wanted).await?;
    }
    nri::post_update(core, container).await;
    Ok(())
}

/// Changes a container's limits as a plugin wants it, also those that CRI has no words for; no plugin is asked.
///
/// # Errors
/// As [`update`].
pub async fn update_limits(core: &Arc<Core>, container: &Arc<Container>, limits: PluginLimits) -> Result<()> {
    let _one_at_a_time = container.ops.lock().await;
    must_be_there(core, container)?;
    change_in_force(core, container, LinuxContainerResources::default(), Some(limits)).await
}

fn must_be_there(core: &Core, container: &Container) -> Result<()> {
    if core.containers.get(&container.id).is_some() {
        return Ok(());
    }
    Err(Error::NotFound {
        kind: Kind::Container,
        id: container.id.clone(),
    })
}

async fn change_in_force(
    core: &Arc<Core>,
    container: &Arc<Container>,
    change: LinuxContainerResources,
    plugins: Option<PluginLimits>,
) -> Result<()> {
    let (core, container) = (Arc::clone(core), Arc::clone(container));
    blocking("changing limits", move || {
        // What plugins want holds what was asked for.
        let change = plugins.as_ref().map_or(change, nri::to_cri);
        change_limits(&core, &container, &change, plugins.as_ref())
    })
    .await
}

fn change_limits(
    core: &Core,
    container: &Container,
    change: &LinuxContainerResources,
    plugins: Option<&PluginLimits>,
) -> Result<()> {
    let record = container.cell.get();
    let wanted = LinuxContainerResources {
        oom_score_adj: record.resources.oom_score_adj,
        ..resources::update(&record.resources, change)
    };
    let mut limits = resources::to_oci(&wanted, &core.node)?;
    if let Some(plugins) = plugins {
        nri::lay_over(&mut limits, plugins)?;
    }
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
    let cgroup = Handle::new(&record.cgroup)?;
    let change = cgroup.change(&limits)?;
    for warning in &change.warnings {
        tracing::warn!(container = record.id, warning, "a limit was passed over");
    }
    if let Err(failure) = remember(container, wanted) {
        // The record says what is in force: without it the limits go back.
        if let Err(error) = cgroup.undo(change) {
            tracing::warn!(container = container.id, %error, "limits that could not be recorded are in force");
        }
        return Err(failure);
    }
    if let Err(error) = note_in_spec(core, &record, &limits) {
        tracing::warn!(container = container.id, %error, "the container's spec shows its former limits");
    }
    Ok(())
}

/// Nothing reads the limits in the bundle's spec any more, but people and tools that inspect the container.
fn note_in_spec(core: &Core, record: &ContainerRecord, limits: &LinuxResources) -> Result<()> {
    let path = core
        .paths
        .pod(&record.pod_id)
        .bundle(&record.id)
        .join("config.json");
    let text = fs::read(&path).io("read", &path)?;
    let broken = |verb| {
        let path = path.clone();
        move |e: serde_json::Error| Error::Io {
            verb,
            path,
            source: e.into(),
        }
    };
    let mut spec: Spec = serde_json::from_slice(&text).map_err(broken("decode"))?;
    let linux = spec.linux_mut().get_or_insert_default();
    linux
        .resources_mut()
        .get_or_insert_default()
        .set_cpu(limits.cpu().clone())
        .set_memory(*limits.memory())
        .set_hugepage_limits(limits.hugepage_limits().clone())
        .set_unified(limits.unified().clone());
    let text = serde_json::to_vec(&spec).map_err(broken("encode"))?;
    let new = path.with_extension("new");
    fs::write(&new, text).io("write", &new)?;
    fs::rename(&new, &path).io("write", &path)
}

fn remember(container: &Container, resources: LinuxContainerResources) -> Result<()> {
    container.cell.update(|record| {
        record.resources = resources;
        Ok(())
    })
}
