//! What calls cost, and what idle pods cost, on a node that has many of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_cri::v1::{ListContainerStatsRequest, ListPodSandboxStatsRequest};
use pintle_tests::host;
use pintle_tests::server::Kind;

use crate::measure::{Target, down, rate, up};
use crate::memory::{self, Memory};
use crate::samples::Samples;

pub(crate) const LIST_PODS: &str = "ListPodSandbox";
pub(crate) const LIST_CONTAINERS: &str = "ListContainers";
pub(crate) const POD_STATUS: &str = "PodSandboxStatus";
pub(crate) const CONTAINER_STATUS: &str = "ContainerStatus";
pub(crate) const CONTAINER_STATS: &str = "ListContainerStats";
pub(crate) const POD_STATS: &str = "ListPodSandboxStats";
pub(crate) const UP: &str = "one more pod, up";
pub(crate) const DOWN: &str = "one more pod, down";

/// The rows of each table, in order.
pub(crate) const ROWS: [&str; 8] = [
    LIST_PODS,
    LIST_CONTAINERS,
    POD_STATUS,
    CONTAINER_STATUS,
    CONTAINER_STATS,
    POD_STATS,
    UP,
    DOWN,
];

/// What was measured while this many idle pods, each with a container, were there.
pub(crate) struct Crowd {
    /// How many pods.
    pub(crate) pods: usize,
    pub(crate) samples: Samples,
    pub(crate) memory: Memory,
    /// What the node has less of for each pod since the crowd before, in KiB, containers included.
    pub(crate) node_per_pod: i64,
    /// In percent of a core, while nobody asks for anything.
    pub(crate) idle_cpu: f64,
}

/// The largest crowd for others: they would take a quarter of an hour to make a larger one.
pub(crate) const PEERS_MOST: usize = 100;

/// For what was begun to come to its end.
const REST: Duration = Duration::from_secs(3);

/// Rounds in a crowd: each brings a pod up and down.
const ROUNDS: usize = 10;

/// Measures with crowds of these sizes, from small to large; then the crowds are removed.
pub(crate) async fn measure(targets: &mut [&mut Target], sizes: &[usize]) -> Result<()> {
    for size in sizes {
        eprintln!("a crowd of {size}");
        let takes_part =
            |target: &&mut &mut Target| *size <= PEERS_MOST || target.world.server.kind() == Kind::Pintle;
        for target in targets.iter_mut().filter(takes_part) {
            target.crowd(*size).await.with_context(|| target.name.clone())?;
        }
        for _ in 0..ROUNDS {
            for target in targets.iter_mut().filter(takes_part) {
                target.crowd_round().await.with_context(|| target.name.clone())?;
            }
        }
    }
    for target in &mut *targets {
        target.disperse().await.with_context(|| target.name.clone())?;
    }
    Ok(())
}

impl Target {
    /// Grows the crowd to `size`, and measures what it costs to have it.
    async fn crowd(&mut self, size: usize) -> Result<()> {
        let before = self.crowd.len();
        let free = i64::try_from(host::memory_available()?)?;
        self.grow(size).await?;
        tokio::time::sleep(REST).await;
        let taken = free - i64::try_from(host::memory_available()?)?;
        let (slot, daemon) = (&self.world.slot, self.world.server.pid()?);
        self.crowds.push(Crowd {
            pods: size,
            samples: Samples::default(),
            memory: memory::of(slot, daemon, size)?,
            node_per_pod: taken / i64::try_from((size - before).max(1))?,
            idle_cpu: memory::idle_cpu(slot).await?,
        });
        Ok(())
    }

    async fn grow(&mut self, size: usize) -> Result<()> {
        let configs: Vec<_> = (self.crowd.len()..size).map(|_| self.pod()).collect();
        let (cri, container) = (self.world.cri.clone(), self.container());
        let made: Arc<Mutex<Vec<String>>> = Arc::default();
        rate(configs.len(), |number| {
            let (cri, config, container) = (cri.clone(), configs[number].clone(), container.clone());
            let made = made.clone();
            async move {
                let pod = up(&cri, &config, &container).await?;
                made.lock().expect("list of pods").push(pod);
                Ok(())
            }
        })
        .await?;
        self.crowd.append(&mut made.lock().expect("list of pods"));
        Ok(())
    }

    /// Every call once, in the crowd that is there.
    pub(crate) async fn crowd_round(&mut self) -> Result<()> {
        let cri = self.world.cri.clone();
        let mut samples = std::mem::take(&mut self.crowds.last_mut().context("no crowd")?.samples);
        let pods = samples.time(LIST_PODS, cri.pods()).await?;
        let containers = samples.time(LIST_CONTAINERS, cri.containers()).await?;
        anyhow::ensure!(pods.len() == self.crowd.len() && containers.len() == pods.len());
        let middle = pods.len() / 2;
        samples.time(POD_STATUS, cri.pod_status(&pods[middle].id)).await?;
        samples
            .time(CONTAINER_STATUS, cri.status(&containers[middle].id))
            .await?;
        let mut runtime = cri.runtime.clone();
        let stats = runtime.list_container_stats(ListContainerStatsRequest::default());
        let stats = samples.time(CONTAINER_STATS, stats).await?.into_inner();
        anyhow::ensure!(stats.stats.len() == pods.len());
        let mut runtime = cri.runtime.clone();
        let stats = runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default());
        let stats = samples.time(POD_STATS, stats).await?.into_inner();
        anyhow::ensure!(stats.stats.len() == pods.len());
        let (config, container) = (self.pod(), self.container());
        let id = samples.time(UP, up(&cri, &config, &container)).await?;
        samples.time(DOWN, down(&cri, &id)).await?;
        self.crowds.last_mut().context("no crowd")?.samples = samples;
        Ok(())
    }

    /// Removes the crowd.
    pub(crate) async fn disperse(&mut self) -> Result<()> {
        let pods = std::mem::take(&mut self.crowd);
        let cri = self.world.cri.clone();
        rate(pods.len(), |number| {
            let (cri, id) = (cri.clone(), pods[number].clone());
            async move { down(&cri, &id).await }
        })
        .await?;
        Ok(())
    }
}
