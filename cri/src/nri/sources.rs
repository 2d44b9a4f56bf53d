//! What messages about pods and containers are made from.

use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::convert;
use crate::container::ContainerRecord;
use crate::core::Core;
use crate::error::Result;
use crate::pod::PodRecord;
use crate::proto::nri::{Container, PodSandbox};
use crate::task::blocking;

/// A pod as plugins see it.
pub(super) fn pod(core: &Core, record: &PodRecord) -> PodSandbox {
    let ns_dir = core.paths.pod(&record.id).path().join("ns");
    let cgroup = core
        .sandbox_cgroup(record)
        .map(|group| group.oci)
        .unwrap_or_default();
    convert::pod(record, &ns_dir, &cgroup)
}

/// A pod as plugins see it, by its id; little more than that where it is gone.
pub(super) fn pod_of(core: &Core, id: &str) -> PodSandbox {
    match core.pods.get(id) {
        Some(found) => pod(core, &found.cell.get()),
        None => PodSandbox {
            id: id.to_owned(),
            ..PodSandbox::default()
        },
    }
}

/// A container as plugins see it, with what its spec on disk tells. Blocking.
pub(super) fn container_now(core: &Core, record: &ContainerRecord) -> Container {
    let bundle = core.paths.pod(&record.pod_id).bundle(&record.id);
    let spec = read(&bundle.join("config.json"));
    convert::container(record, spec.as_ref())
}

/// As [`container_now`], from a task.
///
/// # Errors
/// Only if that panics.
pub(super) async fn container(core: &Arc<Core>, record: Arc<ContainerRecord>) -> Result<Container> {
    let core = Arc::clone(core);
    blocking("reading a container's spec", move || {
        Ok::<_, crate::error::Error>(container_now(&core, &record))
    })
    .await
}

/// A creation that failed has no spec, and an unreadable one is no reason to keep an event from anybody.
fn read(path: &Path) -> Option<Spec> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
