//! RestorePod: a sandbox, and in it the containers of a pod's checkpoint, which wait to be started.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::container::absolute;
use super::metadata::PodOptions;
use super::pod::{VERSION, check_name, no_options};
use super::unpack::Source;
use super::{POD_OPTIONS, POD_SHM, apply, bad, criu};
use crate::container::{self, FromCheckpoint};
use crate::core::Core;
use crate::error::{Error, IoContext as _, Result};
use crate::pod;
use crate::proto::{
    ContainerConfig, CreateContainerRequest, RestorePodRequest, RestorePodResponse, RestoredContainer,
    RunPodSandboxRequest,
};
use crate::task::blocking;

/// `pod.options` is a list of names.
const MAX_OPTIONS: u64 = 1 << 20;

/// Restores a pod. Its containers are created; each goes on when it is started.
///
/// # Errors
/// A checkpoint that isn't one, configs that don't fit it, and whatever fails; nothing is left then.
pub async fn restore(core: &Arc<Core>, request: RestorePodRequest) -> Result<RestorePodResponse> {
    no_options(&request.options)?;
    core.handler(&request.runtime_handler)?;
    criu(core)?;
    let folder = absolute("checkpoint_path", &request.checkpoint_path)?;
    let configs = named(&request.container_configs)?;
    fits(&folder, &configs)?;
    let config = request
        .config
        .ok_or_else(|| Error::invalid("config", "is missing"))?;
    let run = RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: request.runtime_handler,
    };
    let pod_sandbox_id = pod::run(core, run).await?;
    let restored = async {
        restore_shm(core, &pod_sandbox_id, &folder).await?;
        let mut restored = Vec::with_capacity(configs.len());
        // in the order of the request, which is that of the answer
        for config in &request.container_configs {
            let name = config.metadata.clone().unwrap_or_default().name;
            let from = FromCheckpoint {
                source: Source::Archive(folder.join(format!("{name}.tar"))),
                strict: true,
            };
            let create = CreateContainerRequest {
                pod_sandbox_id: pod_sandbox_id.clone(),
                config: Some(config.clone()),
                sandbox_config: request_config(core, &pod_sandbox_id)?,
            };
            let container_id = container::create_from(core, create, Some(from)).await?;
            restored.push(RestoredContainer { name, container_id });
        }
        Ok(restored)
    }
    .await;
    match restored {
        Ok(restored_containers) => Ok(RestorePodResponse {
            pod_sandbox_id,
            restored_containers,
        }),
        Err(error) => {
            let pod = core.pod(&pod_sandbox_id)?;
            if let Err(undo) = pod::remove(core, &pod).await {
                tracing::warn!(pod = pod.id, error = %undo, "a sandbox that failed is not gone yet");
            }
            Err(error)
        }
    }
}

fn request_config(core: &Core, pod: &str) -> Result<Option<crate::proto::PodSandboxConfig>> {
    Ok(Some(core.pod(pod)?.cell.get().config.clone()))
}

fn named(configs: &[ContainerConfig]) -> Result<BTreeMap<String, &ContainerConfig>> {
    let mut all = BTreeMap::new();
    for config in configs {
        let name = config.metadata.clone().unwrap_or_default().name;
        check_name(&name)?;
        if all.insert(name.clone(), config).is_some() {
            return Err(Error::invalid(
                "container_configs",
                format!("{name:?} is there twice"),
            ));
        }
    }
    Ok(all)
}

/// The configs are those of the checkpoint's containers, all of them and no others.
fn fits(folder: &Path, configs: &BTreeMap<String, &ContainerConfig>) -> Result<()> {
    let path = folder.join(POD_OPTIONS);
    let mut text = Vec::new();
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => bad(format!("{POD_OPTIONS} is missing")),
        _ => bad(format!("{POD_OPTIONS}: {error}")),
    })?;
    file.take(MAX_OPTIONS).read_to_end(&mut text).io("read", &path)?;
    let options: PodOptions =
        serde_json::from_slice(&text).map_err(|error| bad(format!("{POD_OPTIONS}: {error}")))?;
    if options.version != VERSION {
        return Err(bad(format!(
            "has version {}, and {VERSION} is known",
            options.version
        )));
    }
    let has: BTreeSet<&str> = options.containers.iter().map(String::as_str).collect();
    let asked: BTreeSet<&str> = configs.keys().map(String::as_str).collect();
    if has == asked && !has.is_empty() {
        return Ok(());
    }
    let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(", ");
    Err(Error::invalid(
        "container_configs",
        format!("are of {}, and the checkpoint is of {}", list(asked), list(has)),
    ))
}

/// What was in the pod's /dev/shm is there before anybody has it open.
async fn restore_shm(core: &Arc<Core>, pod: &str, folder: &Path) -> Result<()> {
    let (from, to): (PathBuf, PathBuf) = (folder.join(POD_SHM), core.paths.pod(pod).shm());
    if !from.exists() || !to.is_dir() {
        return Ok(());
    }
    blocking("restoring a pod's shared memory", move || {
        let tar = File::open(&from).io("open", &from)?;
        apply::unpack(io::BufReader::new(tar), apply::open_root(&to)?.as_fd())
    })
    .await
}
