//! CheckpointPod: containers of a pod that are frozen together, into one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::container::{Staging, absolute, save_all};
use super::interest::Interest;
use super::metadata::{self, PodOptions};
use super::{POD_CONFIG, POD_OPTIONS, POD_SHM, criu, diff, save};
use crate::container::Container;
use crate::core::Core;
use crate::error::{Error, IoContext as _, Result};
use crate::pod::Pod;
use crate::proto::CheckpointPodRequest;
use crate::task::blocking;

/// The version of the folder's layout.
pub(super) const VERSION: u32 = 1;

/// Checkpoints these containers of a pod. They go on.
///
/// # Errors
/// A selection that isn't exactly containers of this pod that run, a folder that isn't empty, an option (there are none),
/// and whatever fails; the folder is empty then.
pub async fn checkpoint(
    core: &Arc<Core>,
    request: CheckpointPodRequest,
    limit: Duration,
    interest: &Interest,
) -> Result<()> {
    no_options(&request.options)?;
    let pod = core.pod(&request.pod_sandbox_id)?;
    pod.must_be_ready()?;
    let output = absolute("output_path", &request.output_path)?;
    must_be_empty(&output)?;
    let containers = selection(core, &pod, &request.container_ids)?;
    let criu = criu(core)?;
    let mut locks = Vec::with_capacity(containers.len());
    for container in &containers {
        locks.push(container.ops.lock().await);
        container.must_run()?;
    }
    let work = async {
        let saved = save_all(core, criu, &containers, interest).await?;
        let (core, output) = (Arc::clone(core), output.clone());
        let (saved, interest) = (named(&containers, saved), interest.clone());
        blocking("archiving a pod's checkpoint", move || {
            write(&core, &pod, &saved, &output, &interest)
        })
        .await
    };
    let done = interest.within(limit, work).await;
    if done.is_err() {
        clear(&output);
    }
    done
}

pub(super) fn no_options(options: &BTreeMap<String, String>) -> Result<()> {
    match options.keys().next() {
        None => Ok(()),
        Some(key) => Err(Error::invalid("options", format!("{key:?} is not known"))),
    }
}

fn must_be_empty(folder: &Path) -> Result<()> {
    let wrong = |what: &str| {
        Err(Error::invalid(
            "output_path",
            format!("{} {what}", folder.display()),
        ))
    };
    match fs::symlink_metadata(folder) {
        Ok(about) if about.is_dir() => {}
        Ok(_) => return wrong("is not a folder"),
        Err(_) => return wrong("does not exist"),
    }
    match fs::read_dir(folder).io("read folder", folder)?.next() {
        None => Ok(()),
        Some(_) => wrong("is not empty"),
    }
}

fn selection(core: &Core, pod: &Pod, ids: &[String]) -> Result<Vec<Arc<Container>>> {
    if ids.is_empty() {
        return Err(Error::invalid("container_ids", "is empty"));
    }
    let mut containers: Vec<Arc<Container>> = Vec::with_capacity(ids.len());
    let mut names = BTreeSet::new();
    for id in ids {
        let container = core.container(id)?;
        if container.pod_id != pod.id {
            return Err(Error::invalid(
                "container_ids",
                format!("{id:?} is in another sandbox"),
            ));
        }
        container.must_run()?;
        if !names.insert(name_of(&container)?) {
            return Err(Error::invalid("container_ids", format!("{id:?} is named twice")));
        }
        containers.push(container);
    }
    // two callers lock them in the same order
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(containers)
}

/// A container's name, which is a file's here.
fn name_of(container: &Container) -> Result<String> {
    let name = container.cell.get().metadata().name;
    check_name(&name)?;
    Ok(name)
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(Error::invalid(
            "metadata.name",
            format!("{name:?} is no name for a file"),
        ));
    }
    Ok(())
}

fn named(containers: &[Arc<Container>], saved: Vec<Staging>) -> Vec<(String, Staging)> {
    let names = containers.iter().map(|c| c.cell.get().metadata().name);
    names.zip(saved).collect()
}

fn write(
    core: &Core,
    pod: &Pod,
    containers: &[(String, Staging)],
    output: &Path,
    interest: &Interest,
) -> Result<()> {
    let record = pod.cell.get();
    let shm: PathBuf = core.paths.pod(&pod.id).shm();
    if shm.is_dir() {
        let to = output.join(POD_SHM);
        let file = File::create(&to).io("create", &to)?;
        diff::write(&shm, &[], &[], interest.writer(file))?;
    }
    for (name, staging) in containers {
        save::archive(&staging.0, &output.join(format!("{name}.tar")), interest)?;
    }
    metadata::write(&output.join(POD_CONFIG), &record.config)?;
    // last: with it the checkpoint is whole
    metadata::write(
        &output.join(POD_OPTIONS),
        &PodOptions {
            version: VERSION,
            containers: containers.iter().map(|(name, _)| name.clone()).collect(),
            ..PodOptions::default()
        },
    )
}

/// Removes what was written into the caller's folder, which was empty.
fn clear(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(%error, "a part of a checkpoint is left");
        }
    }
}
