//! RemoveContainer, and the undo of a CreateContainer that failed: one idempotent way down, taken to its end.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Container, ContainerRecord, image_volumes, kill};
use pintle_runtime::Error as RuntimeError;
use pintle_runtime::error::Kind as ErrorKind;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::events;
use crate::nri;
use crate::proto::ContainerEventType;
use crate::task::blocking;

/// Removes a container and all that is its own, except its log. A running one is killed first.
///
/// # Errors
/// [`Error::Teardown`] names what could not be undone; the container then stays, and another call goes on.
pub async fn remove(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    kill(core, container).await?;
    let _one_at_a_time = container.ops.lock().await;
    if core.containers.get(&container.id).is_none() {
        return Ok(()); // another caller was faster
    }
    // A start may have slipped in before the lock.
    kill(core, container).await?;
    take_down(core, container).await
}

/// Undoes a creation that failed. The caller holds `ops`.
///
/// # Errors
/// As [`remove`].
pub async fn undo_create(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    take_down(core, container).await
}

async fn take_down(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    nri::remove_container(core, container).await;
    let mut left = Vec::new();
    if let Some(monitor) = core.pods.get(&container.pod_id).and_then(|pod| pod.monitor()) {
        match monitor.delete(&container.id).await {
            // Without a monitor the cgroup tells what is left, and that is removed below.
            Ok(()) | Err(RuntimeError::MonitorGone) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => left.push(error.to_string()),
        }
    }
    let (at, what) = (Arc::clone(core), Arc::clone(container));
    left.extend(
        blocking("removing a container", move || {
            Ok::<_, Error>(remove_files(&at, &what))
        })
        .await?,
    );
    if !left.is_empty() {
        return Err(Error::Teardown(left));
    }
    container.cell.delete()?;
    core.containers.remove(&container.id);
    if container.visible() {
        events::of_container(core, ContainerEventType::ContainerDeletedEvent, container);
    }
    core.container_names
        .release(&container.cell.get().name, &container.id);
    Ok(())
}

/// Removes cgroup, bundle, volumes and writable layer. Returns what could not be removed, each with its reason.
fn remove_files(core: &Core, container: &Container) -> Vec<String> {
    let record = container.cell.get();
    let bundle = core.paths.pod(&record.pod_id).bundle(&record.id);
    let volumes = core.paths.volumes().join(&record.id);
    let steps: [Result<()>; 6] = [
        delete_foreign(&record),
        match record.cgroup.as_str() {
            "" => Ok(()),
            cgroup => pintle_runtime::cgroup::remove(cgroup).map_err(Error::from),
        },
        remove_tree(&bundle),
        remove_tree(&volumes),
        core.images.release(&record.id).map_err(Error::from),
        image_volumes::release(core, &record),
    ];
    steps
        .into_iter()
        .filter_map(|step| step.err().map(|error| error.to_string()))
        .collect()
}

/// What another runtime has made that runtime takes down. What it leaves is killed and removed with the cgroup and the bundle,
/// so that one which has gone keeps no container from going.
fn delete_foreign(record: &ContainerRecord) -> Result<()> {
    let Some(runtime) = &record.runtime else {
        return Ok(());
    };
    match pintle_runtime::foreign::delete(runtime, &record.id) {
        Err(error @ RuntimeError::Remote { .. }) => {
            tracing::warn!(container = record.id, %error, "another runtime could not take its container down");
            Ok(())
        }
        deleted => Ok(deleted?),
    }
}

/// Removes a folder with all that is in it; a missing one is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            verb: "remove folder",
            path: path.to_owned(),
            source: e,
        }),
        _ => Ok(()),
    }
}
