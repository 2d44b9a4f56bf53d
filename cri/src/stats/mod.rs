//! What containers and pods use: read off the kernel when somebody asks, by blocking threads that end with the call.
//!
//! A container or pod that ends while a list is made is left out of it, or told without what can't be read any more: it
//! never fails the list.

mod convert;
mod group;
mod layer;
pub mod network;
mod rate;
mod spread;
mod walk;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pintle_runtime::cgroup::Depth;

pub use group::{Group, Kept};
pub use layer::{LayerCounter, LayerMeter, LayerUsage};
pub use rate::Rate;

use crate::container::{Container, ContainerState};
use crate::core::Core;
use crate::error::{Error, IoContext as _, Result};
use crate::pod::{Pod, PodState};
use crate::proto;
use crate::spec::cgroups;
use network::Interface;

/// What is remembered of a container between two questions.
#[derive(Debug, Default)]
pub struct Meter {
    /// Its cgroup.
    pub group: Group,
    /// Its writable layer.
    pub layer: LayerMeter,
}

/// Whether a container has a cgroup whose statistics say something.
fn is_alive(container: &Container) -> bool {
    matches!(
        container.state(),
        ContainerState::Created | ContainerState::Running | ContainerState::Unknown
    )
}

/// One container's use. Blocking.
///
/// # Errors
/// Its cgroup can't be read for another reason than that it is gone.
pub fn container(core: &Core, container: &Arc<Container>) -> Result<proto::ContainerStats> {
    let record = container.cell.get();
    let stats = if is_alive(container) && !record.cgroup.is_empty() {
        container
            .meter
            .group
            .stats(&core.kept, &record.cgroup, Depth::Usage)?
    } else {
        None
    };
    let now = crate::time::now();
    let mut answer = proto::ContainerStats {
        attributes: Some(proto::ContainerAttributes {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }),
        writable_layer: core
            .layers
            .usage(container)
            .map(|usage| convert::layer(&usage, &core.layer_place(&container.pod_id))),
        ..proto::ContainerStats::default()
    };
    if let Some(stats) = stats {
        let cores = container.meter.group.cpu.note(Instant::now(), stats.cpu.usage);
        answer.cpu = Some(convert::cpu(now, &stats, cores));
        answer.memory = stats
            .memory
            .as_ref()
            .map(|memory| convert::memory(now, memory, &stats));
        answer.swap = stats.memory.and_then(|memory| convert::swap(now, &memory));
        answer.io = convert::io(now, &stats);
    }
    Ok(answer)
}

/// The use of those containers that live. Blocking.
pub fn containers(core: &Core, all: &[Arc<Container>]) -> Vec<proto::ContainerStats> {
    let read = |of: &Arc<Container>| {
        container(core, of)
            .inspect_err(|error| tracing::warn!(container = of.id, %error, "no statistics"))
            .ok()
    };
    let alive: Vec<_> = all.iter().filter(|of| is_alive(of)).collect();
    spread::map(&alive, |of| read(of)).into_iter().flatten().collect()
}

/// The use of pods that are ready. Blocking.
///
/// # Errors
/// Only where no thread can be started to read the network's.
pub fn pods(core: &Core, all: &[Arc<Pod>]) -> Result<Vec<proto::PodSandboxStats>> {
    let ready: Vec<&Arc<Pod>> = all.iter().filter(|pod| pod.state() == PodState::Ready).collect();
    std::thread::scope(|scope| {
        let networks = std::thread::Builder::new()
            .name("pintled-stats".to_owned())
            .spawn_scoped(scope, || networks(core, &ready))
            .io("start a thread for", Path::new("network statistics"))?;
        let mut of_pods: HashMap<String, Vec<Arc<Container>>> = HashMap::new();
        for container in core.containers.all() {
            of_pods
                .entry(container.pod_id.clone())
                .or_default()
                .push(container);
        }
        let none = Vec::new();
        let mut stats = spread::map(&ready, |pod| {
            pod_stats(core, pod, of_pods.get(&pod.id).unwrap_or(&none))
        });
        let networks = networks.join();
        let networks = networks.map_err(|_| Error::Panicked("reading network statistics"))??;
        stats
            .iter_mut()
            .zip(networks)
            .for_each(|(of, network)| add_network(of, network));
        Ok(stats)
    })
}

/// One pod's use. Blocking.
///
/// # Errors
/// [`Error::WrongState`] unless it is ready.
pub fn pod(core: &Core, pod: &Arc<Pod>) -> Result<proto::PodSandboxStats> {
    pod.must_be_ready()?;
    let mut stats = pod_stats(core, pod, &core.containers_of(&pod.id));
    add_network(&mut stats, networks(core, &[pod])?.pop().flatten());
    Ok(stats)
}

fn add_network(stats: &mut proto::PodSandboxStats, network: Option<Vec<Interface>>) {
    if let Some(linux) = &mut stats.linux {
        linux.network = network.map(|all| convert::network(crate::time::now(), &all));
    }
}

/// The interfaces of each pod; None for those on the node's network, whose traffic is the node's.
///
/// # Errors
/// As [`network::interfaces`].
pub(crate) fn networks(core: &Core, pods: &[&Arc<Pod>]) -> Result<Vec<Option<Vec<Interface>>>> {
    let own: Vec<bool> = pods.iter().map(|pod| !pod.cell.get().host_network()).collect();
    let namespaces: Vec<_> = pods
        .iter()
        .zip(&own)
        .filter(|(_, own)| **own)
        .map(|(pod, _)| core.paths.pod(&pod.id).namespace("net"))
        .collect();
    if namespaces.is_empty() {
        return Ok(vec![None; pods.len()]);
    }
    let mut read = network::interfaces(&namespaces)?.into_iter();
    Ok(own
        .into_iter()
        .map(|own| if own { read.next().flatten() } else { None })
        .collect())
}

/// All but the network.
fn pod_stats(core: &Core, pod: &Arc<Pod>, containers: &[Arc<Container>]) -> proto::PodSandboxStats {
    let record = pod.cell.get();
    let containers = self::containers(core, containers);
    // A pod without containers may have no cgroup yet.
    let stats = pod_cgroup(&pod.id, &record.cgroup_parent)
        .and_then(|path| pod.group.stats(&core.kept, &path, Depth::Usage))
        .inspect_err(|error| tracing::warn!(pod = pod.id, %error, "no statistics"))
        .unwrap_or_default()
        .unwrap_or_default();
    let now = crate::time::now();
    let cores = pod.group.cpu.note(Instant::now(), stats.cpu.usage);
    proto::PodSandboxStats {
        attributes: Some(proto::PodSandboxAttributes {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }),
        linux: Some(proto::LinuxPodSandboxStats {
            cpu: Some(convert::cpu(now, &stats, cores)),
            memory: stats
                .memory
                .as_ref()
                .map(|memory| convert::memory(now, memory, &stats)),
            network: None,
            process: stats.pids.map(|pids| convert::processes(now, pids.current)),
            containers,
            io: convert::io(now, &stats),
        }),
        windows: None,
    }
}

/// The cgroup that holds all of a pod, as a path below the hierarchies' roots.
///
/// # Errors
/// [`Error::Spec`] for a parent that leads elsewhere, which RunPodSandbox refuses.
pub(crate) fn pod_cgroup(pod: &str, parent: &str) -> Result<String> {
    let inside = cgroups::place(parent, pod, "").map_err(Error::from)?;
    let above = Path::new(&inside.path).parent().unwrap_or(Path::new("/"));
    Ok(above.display().to_string())
}
