//! What is measured, call by call.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_cri::v1::{ContainerConfig, PodSandboxConfig};
use pintle_tests::cri::Cri;
use pintle_tests::pod;
use pintle_tests::world::World;
use tokio::task::JoinSet;

use crate::crowd::Crowd;
use crate::lines;
use crate::samples::Samples;

pub(crate) const RUN_HOST: &str = "RunPodSandbox, host network";
pub(crate) const STOP_HOST: &str = "StopPodSandbox, host network";
pub(crate) const RUN_NET: &str = "RunPodSandbox with network";
pub(crate) const START: &str = "CreateContainer + StartContainer";
pub(crate) const EXEC: &str = "ExecSync `echo`";
pub(crate) const KILL: &str = "StopContainer (SIGKILL)";
pub(crate) const STOP_NET: &str = "StopPodSandbox with network";
pub(crate) const REMOVE: &str = "RemovePodSandbox";
pub(crate) const UP: &str = "pod with one container, up";
pub(crate) const DOWN: &str = "pod with one container, down";

/// The rows of the table, in order.
pub(crate) const ROWS: [&str; 10] = [
    RUN_HOST, STOP_HOST, RUN_NET, START, EXEC, KILL, STOP_NET, REMOVE, UP, DOWN,
];

/// Calls under way at once while throughput is measured.
pub(crate) const AT_ONCE: usize = 8;

/// A signal that comes before PID 1 has set up a handler is lost; also, let the machine come to rest.
const BREATH: Duration = Duration::from_millis(10);

/// One daemon with what was measured of it.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) samples: Samples,
    /// ExecSync calls a second, eight at once.
    pub(crate) execs_per_second: f64,
    /// Pods with a container a second, up and down, eight at once.
    pub(crate) pods_per_second: f64,
    /// Megabytes a second of short lines into a container's log.
    pub(crate) log_megabytes: f64,
    /// What was measured in crowds, in the order of their sizes.
    pub(crate) crowds: Vec<Crowd>,
    /// The idle pods that are there.
    pub(crate) crowd: Vec<String>,
    pub(crate) world: World,
    image: String,
    serial: usize,
}

impl Target {
    /// With the image pulled.
    pub(crate) async fn new(name: &str, world: World) -> Result<Target> {
        let image = world.busybox().await?;
        Ok(Target {
            name: name.to_owned(),
            samples: Samples::default(),
            execs_per_second: 0.0,
            pods_per_second: 0.0,
            log_megabytes: 0.0,
            crowds: Vec::new(),
            crowd: Vec::new(),
            world,
            image,
            serial: 0,
        })
    }

    /// Drops what was measured so far.
    pub(crate) fn forget(&mut self) {
        self.samples.clear();
    }

    pub(crate) fn pod(&mut self) -> PodSandboxConfig {
        self.serial += 1;
        pod::pod(&self.world.slot, &format!("bench-{}", self.serial))
    }

    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    pub(crate) fn container(&self) -> ContainerConfig {
        pod::container("bench", &self.image, &["sleep", "86400"])
    }

    /// Every call once, ExecSync five times.
    pub(crate) async fn round(&mut self) -> Result<()> {
        self.host_network().await?;
        self.step_by_step().await?;
        self.up_and_down().await
    }

    async fn host_network(&mut self) -> Result<()> {
        let config = pod::on_host_network(self.pod());
        let cri = self.world.cri.clone();
        let id = self.samples.time(RUN_HOST, cri.run_pod(&config)).await?;
        self.samples.time(STOP_HOST, cri.stop_pod(&id)).await?;
        cri.remove_pod(&id).await?;
        Ok(())
    }

    async fn step_by_step(&mut self) -> Result<()> {
        let (config, container) = (self.pod(), self.container());
        let cri = self.world.cri.clone();
        let id = self.samples.time(RUN_NET, cri.run_pod(&config)).await?;
        let created = self
            .samples
            .time(START, create_and_start(&cri, &id, &config, &container))
            .await?;
        tokio::time::sleep(BREATH).await;
        for _ in 0..5 {
            let answer = self
                .samples
                .time(EXEC, cri.exec(&created, &["echo", "hello"], 60))
                .await?;
            anyhow::ensure!(answer.stdout == b"hello\n", "{answer:?}");
        }
        self.samples.time(KILL, cri.stop(&created, 0)).await?;
        cri.remove(&created).await?;
        self.samples.time(STOP_NET, cri.stop_pod(&id)).await?;
        self.samples.time(REMOVE, cri.remove_pod(&id)).await?;
        Ok(())
    }

    async fn up_and_down(&mut self) -> Result<()> {
        let (config, container) = (self.pod(), self.container());
        let cri = self.world.cri.clone();
        let id = self.samples.time(UP, up(&cri, &config, &container)).await?;
        tokio::time::sleep(BREATH).await;
        self.samples.time(DOWN, down(&cri, &id)).await
    }

    /// Execs and pods, [`AT_ONCE`] at once.
    pub(crate) async fn throughput(&mut self) -> Result<()> {
        let (config, container) = (self.pod(), self.container());
        let cri = self.world.cri.clone();
        let id = cri.run_pod(&config).await?;
        let created = create_and_start(&cri, &id, &config, &container).await?;
        self.execs_per_second = rate(200, |_| {
            let (cri, created) = (cri.clone(), created.clone());
            async move {
                cri.exec(&created, &["echo", "hello"], 60).await?;
                Ok(())
            }
        })
        .await?;
        down(&cri, &id).await?;

        let configs: Vec<_> = (0..40).map(|_| self.pod()).collect();
        self.pods_per_second = rate(configs.len(), |number| {
            let (cri, config, container) = (cri.clone(), configs[number].clone(), self.container());
            async move { down(&cri, &up(&cri, &config, &container).await?).await }
        })
        .await?;
        self.log_megabytes = lines::throughput(self).await?;
        Ok(())
    }
}

async fn create_and_start(
    cri: &Cri,
    pod: &str,
    config: &PodSandboxConfig,
    c: &ContainerConfig,
) -> Result<String> {
    let id = cri.create(pod, config, c).await.context("CreateContainer")?;
    cri.start(&id).await.context("StartContainer")?;
    Ok(id)
}

pub(crate) async fn up(cri: &Cri, config: &PodSandboxConfig, container: &ContainerConfig) -> Result<String> {
    let id = cri.run_pod(config).await.context("RunPodSandbox")?;
    create_and_start(cri, &id, config, container).await?;
    Ok(id)
}

pub(crate) async fn down(cri: &Cri, id: &str) -> Result<()> {
    cri.stop_pod(id).await.context("StopPodSandbox")?;
    cri.remove_pod(id).await.context("RemovePodSandbox")
}

/// How many pieces of work get done a second, [`AT_ONCE`] at once.
pub(crate) async fn rate<F>(total: usize, work: impl Fn(usize) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let start = Instant::now();
    let mut running = JoinSet::new();
    for number in 0..total {
        if running.len() == AT_ONCE {
            running.join_next().await.context("work under way")???;
        }
        running.spawn(work(number));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(total as f64 / start.elapsed().as_secs_f64())
}
