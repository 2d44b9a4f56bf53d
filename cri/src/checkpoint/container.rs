//! CheckpointContainer, and what CheckpointPod does of it for each container.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pintle_runtime::checkpoint::{Checkpoint, Connections, Target};
use pintle_runtime::client::Dumped;

use super::interest::Interest;
use super::{IMAGES, criu, save, unpack};
use crate::container::{Container, ContainerRecord, remove_tree};
use crate::core::Core;
use crate::error::{Error, IoContext as _, Result};
use crate::task::blocking;

/// How long a checkpoint may take whose caller sets no limit.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long processes may take to stand still, in seconds.
const FREEZE: u32 = 10;

/// What becomes of a container's connections: those that lead outside the node's own sockets can't outlive its address.
pub(crate) const CONNECTIONS: Connections = Connections {
    tcp_established: false,
    tcp_close: true,
    ext_unix_sk: true,
    file_locks: true,
    shell_job: false,
    link_remap: false,
};

/// Writes a checkpoint of a running container to the archive `location`. The container goes on.
///
/// # Errors
/// What criu says, and what else fails, or that nobody wants it any more; nothing is left then, and the container goes on as well.
pub async fn checkpoint(
    core: &Arc<Core>,
    id: &str,
    location: &str,
    timeout: i64,
    interest: &Interest,
) -> Result<()> {
    let container = core.container(id)?;
    let to = absolute("location", location)?;
    let limit = match u64::try_from(timeout) {
        Ok(0) => PATIENCE,
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => return Err(Error::invalid("timeout", format!("{timeout} is negative"))),
    };
    let criu = criu(core)?;
    let _one_at_a_time = container.ops.lock().await;
    container.must_run()?;
    let work = async {
        let saved = save_all(core, criu, std::slice::from_ref(&container), interest).await?;
        let [staging] = saved.as_slice() else {
            return Err(Error::Panicked("checkpointing"));
        };
        let (from, to, interest) = (staging.0.clone(), to.clone(), interest.clone());
        blocking("archiving a checkpoint", move || {
            save::archive(&from, &to, &interest)
        })
        .await
    };
    interest.within(limit, work).await
}

pub(super) fn absolute(field: &str, path: &str) -> Result<PathBuf> {
    match Path::new(path).is_absolute() {
        true => Ok(path.into()),
        false => Err(Error::invalid(field, format!("{path:?} is not an absolute path"))),
    }
}

/// A folder of a checkpoint's files, gone when dropped.
#[derive(Debug)]
pub(super) struct Staging(pub(super) PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(%error, "the files of a checkpoint are left");
        }
    }
}

/// Freezes containers of one pod together, dumps them, and writes what belongs to the dumps; all go on then. The caller
/// holds their `ops`.
pub(super) async fn save_all(
    core: &Arc<Core>,
    criu: PathBuf,
    containers: &[Arc<Container>],
    interest: &Interest,
) -> Result<Vec<Staging>> {
    let mut folders = Vec::with_capacity(containers.len());
    let mut targets = Vec::with_capacity(containers.len());
    for container in containers {
        let record = container.cell.get();
        let folder = Staging(unpack::make_folder(core, &record.id)?);
        targets.push(target(core, &record, &folder.0)?);
        folders.push(folder);
    }
    let request = Checkpoint {
        containers: targets,
        criu,
        timeout: FREEZE,
        connections: CONNECTIONS,
    };
    let dumped = Dumped::dump(&core.monitor, &request, interest.ended()).await?;
    let mut saved = Ok(());
    for (container, folder) in containers.iter().zip(&folders) {
        saved = save(core, container, folder, interest).await;
        if saved.is_err() {
            break;
        }
    }
    dumped.thaw().await?;
    saved?;
    Ok(folders)
}

fn target(core: &Core, record: &ContainerRecord, folder: &Path) -> Result<Target> {
    if record.runtime.is_some() {
        return Err(Error::invalid(
            "container_id",
            format!("{:?} is another runtime's, and can't be checkpointed", record.id),
        ));
    }
    let images = folder.join(IMAGES);
    std::fs::create_dir(&images).io("create folder", &images)?;
    Ok(Target {
        pid: record.pid,
        bundle: core.paths.pod(&record.pod_id).bundle(&record.id),
        cgroup: record.cgroup.clone(),
        images,
        work: folder.to_owned(),
    })
}

async fn save(
    core: &Arc<Core>,
    container: &Arc<Container>,
    folder: &Staging,
    interest: &Interest,
) -> Result<()> {
    let (core, record, folder) = (Arc::clone(core), container.cell.get(), folder.0.clone());
    let interest = interest.clone();
    blocking("saving a checkpoint's files", move || {
        let spec = save::spec(&core.paths.pod(&record.pod_id).bundle(&record.id))?;
        let snapshot = core
            .images
            .snapshot_of(&record.id)
            .ok_or_else(|| super::bad("the container's writable layer is gone"))?;
        save::files(&record, spec, &snapshot, &folder, &interest)
    })
    .await
}
