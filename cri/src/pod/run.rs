//! RunPodSandbox: one creation at a time for each name, and a retry takes over what its predecessor did not wait for.
//!
//! A caller that gives up (kubelet does after four minutes) leaves the creation running. The same request again
//! waits for that creation, or gets its finished sandbox, instead of hearing that the name is taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Pod, PodNetworkRecord, PodRecord, PodState, setup, teardown, unique_name};
use crate::core::{Core, new_id};
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::proto::{ContainerEventType, RunPodSandboxRequest};
use crate::spec::sandbox;
use crate::store::Cell;

type Outcome = Option<Result<(), Arc<Error>>>;

/// Creations that are under way, or done and not yet claimed, by the pod's unique name.
#[derive(Debug, Default)]
pub struct InFlight(Mutex<HashMap<String, Arc<Creation>>>);

#[derive(Debug)]
struct Creation {
    id: String,
    request: RunPodSandboxRequest,
    callers: AtomicUsize,
    outcome: watch::Sender<Outcome>,
}

/// A caller that waits; dropping it is what a cancelled RPC does.
struct Caller(Arc<Creation>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.callers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl InFlight {
    /// Forgets the creation of this pod, claimed or not.
    pub fn forget(&self, name: &str, id: &str) {
        let mut map = self.lock();
        if map.get(name).is_some_and(|creation| creation.id == id) {
            map.remove(name);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Creation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a pod sandbox ready. Returns its id.
///
/// # Errors
/// Bad configs, a name in use, and whatever fails on the way; nothing is left behind then. Where even the undo fails the
/// sandbox stays, listed as not ready, for the caller to remove.
pub async fn run(core: &Arc<Core>, request: RunPodSandboxRequest) -> Result<String> {
    core.handler(&request.runtime_handler)?;
    let config = request
        .config
        .as_ref()
        .ok_or_else(|| Error::invalid("config", "is missing"))?;
    sandbox::validate(config)?;
    let name = unique_name(&config.metadata.clone().unwrap_or_default());
    let caller = join_or_begin(core, &name, request)?;
    let mut outcome = caller.0.outcome.subscribe();
    let done = outcome
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|done| done.clone());
    core.in_flight.forget(&name, &caller.0.id);
    match done {
        Some(Ok(())) => Ok(caller.0.id.clone()),
        Some(Err(error)) => Err(Error::Shared(error)),
        None => Err(Error::Panicked("creating a pod sandbox")),
    }
}

fn join_or_begin(core: &Arc<Core>, name: &str, request: RunPodSandboxRequest) -> Result<Caller> {
    let mut map = core.in_flight.lock();
    if let Some(creation) = map.get(name) {
        let abandoned = creation.callers.load(Ordering::Acquire) == 0;
        let usable = core
            .pods
            .get(&creation.id)
            .is_some_and(|pod| pod.state() != PodState::NotReady);
        if abandoned && usable && creation.request == request {
            creation.callers.fetch_add(1, Ordering::AcqRel);
            return Ok(Caller(Arc::clone(creation)));
        }
        return Err(Error::NameTaken {
            kind: Kind::Pod,
            name: name.to_owned(),
            holder: creation.id.clone(),
        });
    }
    let id = new_id();
    core.pod_names.reserve(name, &id)?;
    let creation = Arc::new(Creation {
        id,
        request,
        callers: AtomicUsize::new(1),
        outcome: watch::Sender::new(None),
    });
    map.insert(name.to_owned(), Arc::clone(&creation));
    let (core, name, work) = (Arc::clone(core), name.to_owned(), Arc::clone(&creation));
    tokio::spawn(async move {
        let outcome = create(&core, &name, &work).await;
        if outcome.is_err() {
            core.in_flight.forget(&name, &work.id);
        }
        work.outcome.send_replace(Some(outcome.map_err(Arc::new)));
    });
    Ok(Caller(creation))
}

async fn create(core: &Arc<Core>, name: &str, creation: &Creation) -> Result<()> {
    let pod = match record(core, creation) {
        Ok(pod) => pod,
        Err(error) => {
            core.pod_names.release(name, &creation.id);
            return Err(error);
        }
    };
    core.pods.insert(&pod.id, Arc::clone(&pod));
    let done = {
        let _one_at_a_time = pod.ops.lock().await;
        setup::set_up(core, &pod).await
    };
    if let Err(error) = done {
        if let Err(undo) = teardown::remove(core, &pod).await {
            tracing::warn!(pod = pod.id, error = %undo, "a sandbox that failed is not gone; it stays listed as not ready");
        }
        return Err(error);
    }
    events::of_pod(core, ContainerEventType::ContainerCreatedEvent, &pod);
    events::of_pod(core, ContainerEventType::ContainerStartedEvent, &pod);
    Ok(())
}

/// The record says what is about to be made before any of it is, so that a later daemon can undo it.
fn record(core: &Core, creation: &Creation) -> Result<Arc<Pod>> {
    let config = creation.request.config.clone().unwrap_or_default();
    let cgroup_parent = core.cgroup_parent(&config, &creation.id)?;
    let mut record = PodRecord {
        id: creation.id.clone(),
        boot_id: core.boot_id.clone(),
        runtime_handler: creation.request.runtime_handler.clone(),
        state: PodState::Creating,
        created_at: crate::time::now(),
        network: PodNetworkRecord::None,
        ips: Vec::new(),
        cgroup_parent,
        cgroup_prefix: core.config.runtime().cgroup_prefix.clone(),
        selinux_level: core.node.selinux.then(|| selinux_level(core)),
        config,
    };
    if !record.host_network() {
        record.network = core.network.choose(&core.handler_of(&record)?.name);
    }
    Ok(Pod::new(Cell::create(&core.pod_records, record)?))
}

/// A level that no other pod has: two categories by chance, again while they are taken.
fn selinux_level(core: &Core) -> String {
    let pods = core.pods.all();
    let taken: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod.cell.get().selinux_level.clone())
        .collect();
    sandbox::free_level(|level| taken.iter().any(|other| other == level))
}
