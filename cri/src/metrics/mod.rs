//! The metrics of pods and containers that a kubelet offers in cAdvisor's place (ListPodSandboxMetrics).
//!
//! Everything is read when it is asked for. The CRI's values are whole numbers, so that seconds lose their parts.

mod container;
mod families;
mod processes;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

pub use families::descriptors;

use crate::core::Core;
use crate::error::Result;
use crate::pod::{Pod, PodRecord, PodState};
use crate::proto::{ContainerMetrics, Metric, PodSandboxMetadata, PodSandboxMetrics, UInt64Value};
use crate::stats::network::{Interface, Traffic};
use crate::stats::{networks, pod_cgroup};
use families::{BASE, Family};

/// Collects the metrics of one pod or container.
struct Emitter {
    base: [String; BASE.len()],
    metrics: Vec<Metric>,
}

impl Emitter {
    /// For metrics under these values of [`BASE`].
    fn new(base: [String; BASE.len()]) -> Self {
        Self {
            base,
            metrics: Vec::with_capacity(64),
        }
    }

    /// Adds a value under the labels that are the family's own.
    fn add(&mut self, family: &Family, labels: &[&str], value: u64) {
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        let own = labels.iter().map(|label| (*label).to_owned());
        self.metrics.push(Metric {
            name: family.name.to_owned(),
            timestamp: 0, // live
            metric_type: family.kind as i32,
            label_values: self.base.iter().cloned().chain(own).collect(),
            value: Some(UInt64Value { value }),
        });
    }

    /// Adds a value if there is one.
    fn add_some(&mut self, family: &Family, labels: &[&str], value: Option<u64>) {
        if let Some(value) = value {
            self.add(family, labels, value);
        }
    }
}

/// Names of block devices by their numbers, looked up once a call.
#[derive(Default)]
struct Devices(HashMap<(u64, u64), String>);

impl Devices {
    /// `/dev/vda`; the numbers themselves for a device without a name.
    fn name(&mut self, major: u64, minor: u64) -> &str {
        self.0.entry((major, minor)).or_insert_with(|| {
            let path = format!("/sys/dev/block/{major}:{minor}/uevent");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
            name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"))
        })
    }
}

/// The metrics of all ready pods. Blocking.
///
/// # Errors
/// Only where no thread can be started to read the network's.
pub fn collect(core: &Core) -> Result<Vec<PodSandboxMetrics>> {
    let pods = core.pods.all();
    let ready: Vec<&Arc<Pod>> = pods.iter().filter(|pod| pod.state() == PodState::Ready).collect();
    let networks = networks(core, &ready)?;
    let disk = container::Disk::look(core.images.root());
    let mut devices = Devices::default();
    let mut all = Vec::with_capacity(ready.len());
    for (pod, network) in ready.into_iter().zip(networks) {
        let record = pod.cell.get();
        let containers = core.containers_of(&pod.id);
        let metrics = containers
            .iter()
            .filter_map(|of| container::metrics(core, of, &record, &disk, &mut devices));
        all.push(PodSandboxMetrics {
            pod_sandbox_id: pod.id.clone(),
            container_metrics: metrics.collect::<Vec<ContainerMetrics>>(),
            metrics: network_metrics(&record, &network.unwrap_or_default()),
        });
    }
    Ok(all)
}

fn network_metrics(pod: &PodRecord, interfaces: &[Interface]) -> Vec<Metric> {
    let PodSandboxMetadata { name, namespace, .. } = pod.metadata();
    let cgroup = pod_cgroup(&pod.id, &pod.cgroup_parent).unwrap_or_default();
    let empty = String::new;
    let mut emitter = Emitter::new([empty(), cgroup, empty(), empty(), namespace, name]);
    let mut add = |labels: &[&str], traffic: &Traffic, families: [&Family; 4]| {
        let values = [traffic.bytes, traffic.errors, traffic.dropped, traffic.packets];
        for (family, value) in families.into_iter().zip(values) {
            emitter.add(family, labels, value);
        }
    };
    for interface in interfaces {
        let labels = [interface.name.as_str()];
        let received = [
            &families::RECEIVED_BYTES,
            &families::RECEIVED_ERRORS,
            &families::RECEIVED_DROPPED,
            &families::RECEIVED_PACKETS,
        ];
        add(&labels, &interface.received, received);
        let sent = [
            &families::SENT_BYTES,
            &families::SENT_ERRORS,
            &families::SENT_DROPPED,
            &families::SENT_PACKETS,
        ];
        add(&labels, &interface.sent, sent);
    }
    emitter.metrics
}

/// Whole seconds of nanoseconds.
fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000_000_000
}

/// The device that a path lies on.
fn device_of(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(path).map_or(0, |metadata| metadata.dev());
    (nix::sys::stat::major(device), nix::sys::stat::minor(device))
}
