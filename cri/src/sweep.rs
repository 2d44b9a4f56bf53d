//! Finds what no record tells of, and removes it: the last net under every crash. Runs before the daemon serves, so
//! that nothing it meets can be of an operation under way. It looks into this daemon's own folders only: cgroups, for
//! one, may be another daemon's.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pintle_runtime::client::MonitorClient;
use tokio::time::timeout;

use crate::container::{container_of, remove_tree};
use crate::core::Core;
use crate::error::{IoContext as _, Result};
use crate::task::blocking;

const PATIENCE: Duration = Duration::from_secs(10);

/// Removes folders, mounts, monitors, snapshots, addresses and cgroups that belong to nothing known.
pub async fn sweep(core: &Arc<Core>) {
    containers_without_pod(core).await;
    for folder in unknown(&core.paths.pods(), |id| core.pods.get(id).is_some()) {
        tracing::info!(folder = %folder.display(), "sweeping up a pod without a record");
        note("pod folder", end_pod(&folder).await);
    }
    let at = Arc::clone(core);
    note(
        "store",
        blocking("sweeping", move || -> Result<()> { sweep_files(&at) }).await,
    );
    let live: Vec<String> = core.pods.all().iter().map(|pod| pod.id.clone()).collect();
    note("network", core.network.gc(live).await);
}

async fn containers_without_pod(core: &Arc<Core>) {
    for container in core.containers.all() {
        if core.pods.get(&container.pod_id).is_none() {
            tracing::info!(container = container.id, "sweeping up a container without a pod");
            crate::container::kill_by_cgroup(core, &container).await;
            note("container", crate::container::remove(core, &container).await);
        }
    }
}

async fn end_pod(folder: &Path) -> Result<()> {
    if let Ok(Ok((monitor, _events))) = timeout(PATIENCE, MonitorClient::connect(folder)).await {
        monitor.shutdown().await?;
    }
    let folder = folder.to_owned();
    blocking("sweeping", move || {
        pintle_runtime::sandbox::unpin(&folder)?;
        pintle_runtime::sandbox::unmount(&folder.join("shm"))?;
        remove_tree(&folder)
    })
    .await
}

fn sweep_files(core: &Core) -> Result<()> {
    let checkpoints = core.paths.checkpoints();
    remove_tree(&checkpoints)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&checkpoints)
        .io("create folder", &checkpoints)?;
    for folder in unknown(&core.paths.volumes(), |id| core.containers.get(id).is_some()) {
        remove_tree(&folder)?;
    }
    for id in core.images.snapshots() {
        if core.containers.get(&id).is_none() {
            core.images.release(&id)?;
        }
    }
    for id in core.images.views() {
        if core.containers.get(container_of(&id)).is_none() {
            core.images.release_view(&id)?;
        }
    }
    Ok(())
}

/// The entries of `folder` that are named by an id which is not `known`.
fn unknown(folder: &Path, known: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .filter(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| is_id(n) && !known(n))
        })
        .collect()
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn note(what: &str, swept: Result<()>) {
    if let Err(error) = swept {
        tracing::warn!(what, %error, "not all could be swept up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_named_by_an_unknown_id_are_swept() {
        let tmp = tempfile::tempdir().unwrap();
        let (stray, kept) = ("a".repeat(64), "b".repeat(64));
        for name in [stray.as_str(), kept.as_str(), "somebody-elses", &"c".repeat(63)] {
            fs::create_dir(tmp.path().join(name)).unwrap();
        }
        assert_eq!(unknown(tmp.path(), |id| id == kept), [tmp.path().join(stray)]);
    }
}
