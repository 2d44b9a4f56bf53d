//! All that a test needs, and the wrapper that shows the daemon's log when the test fails.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_cri::v1::{ContainerConfig, ContainerState, ContainerStatus, PodSandboxConfig};
use serde_json::json;

use crate::cri::Cri;
use crate::image::{self, Builder, Format, Layer, Packing};
use crate::leaks::Count;
use crate::logs::{self, Record};
use crate::registry::Registry;
use crate::server::{Kind, Server, Setup};
use crate::slot::Slot;
use crate::wait;

/// A slot with a registry, a running daemon and a client; all undone when dropped, in the order of the fields.
pub struct World {
    /// The client. After a restart of the daemon, see [`World::restart`].
    pub cri: Cri,
    /// The daemon.
    pub server: Server,
    /// The registry.
    pub registry: Registry,
    /// The share of the machine.
    pub slot: Slot,
}

/// A running container in a pod of its own.
#[derive(Debug, Clone)]
pub struct Running {
    /// The pod's id.
    pub pod: String,
    /// The pod's configuration.
    pub pod_config: PodSandboxConfig,
    /// The container's id.
    pub container: String,
    /// Where its log lies.
    pub log: PathBuf,
}

impl Running {
    /// The log's records so far.
    pub fn records(&self) -> Result<Vec<Record>> {
        logs::read(&self.log)
    }

    /// The lines on standard output so far.
    pub fn lines(&self) -> Result<Vec<String>> {
        Ok(logs::lines(&self.records()?, "stdout"))
    }
}

/// Runs a test in a world with the default daemon. Panics with the daemon's log if the test fails.
pub async fn test(body: impl AsyncFnOnce(&mut World) -> Result<()>) {
    let setup = Setup::from_env().expect("the daemon to test");
    test_with(setup, body).await;
}

/// Runs a test in a world with a daemon of its choice.
pub async fn test_with(setup: Setup, body: impl AsyncFnOnce(&mut World) -> Result<()>) {
    let mut world = World::new(setup)
        .await
        .unwrap_or_else(|error| panic!("setting up: {error:?}"));
    if let Err(error) = body(&mut world).await {
        panic!("{error:?}\n--- the daemon's log:\n{}", world.server.log_tail(60));
    }
}

impl World {
    /// Takes a slot and starts everything.
    pub async fn new(mut setup: Setup) -> Result<World> {
        let slot = Slot::acquire()?;
        let registry = Registry::start(&slot.root().join("registry"))?;
        if setup.kind != Kind::Pintle {
            setup.pause_image = push_pause(&registry)?;
        }
        let mut server = Server::prepare(&slot, setup)?;
        let cri = server.start().await?;
        Ok(World {
            cri,
            server,
            registry,
            slot,
        })
    }

    /// SIGKILLs the daemon and starts it again.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.kill();
        self.start().await
    }

    /// Starts the daemon after it was ended.
    pub async fn start(&mut self) -> Result<()> {
        self.cri = self.server.start().await?;
        Ok(())
    }

    /// Pushes and pulls the busybox image; its reference.
    pub async fn busybox(&self) -> Result<String> {
        let reference = self.registry.push(&image::busybox()?, "busybox", "latest")?;
        self.cri.pull(&reference).await.context("pull busybox")?;
        Ok(reference)
    }

    /// Counts what the slot holds now.
    pub fn count(&self) -> Result<Count> {
        Count::take(&self.slot, &self.server)
    }

    /// Fails if the slot holds more than when `before` was taken.
    pub async fn assert_nothing_left(&self, before: &Count) -> Result<()> {
        before.assert_not_grown(&self.slot, &self.server).await
    }

    /// Runs a pod with one started container.
    pub async fn run(&self, pod_config: PodSandboxConfig, config: &ContainerConfig) -> Result<Running> {
        self.run_on("", pod_config, config).await
    }

    /// As [`World::run`], with a runtime handler.
    pub async fn run_on(
        &self,
        handler: &str,
        pod_config: PodSandboxConfig,
        config: &ContainerConfig,
    ) -> Result<Running> {
        let pod = self.cri.run_pod_on(handler, &pod_config).await;
        let pod = pod.context("RunPodSandbox")?;
        let container = self.add(&pod, &pod_config, config).await?;
        let log = PathBuf::from(&pod_config.log_directory).join(&config.log_path);
        Ok(Running {
            pod,
            pod_config,
            container,
            log,
        })
    }

    /// Creates and starts another container in a pod.
    pub async fn add(
        &self,
        pod: &str,
        pod_config: &PodSandboxConfig,
        config: &ContainerConfig,
    ) -> Result<String> {
        let container = self
            .cri
            .create(pod, pod_config, config)
            .await
            .context("CreateContainer")?;
        self.cri.start(&container).await.context("StartContainer")?;
        Ok(container)
    }

    /// Waits until a container has ended; its status.
    pub async fn wait_exited(&self, container: &str) -> Result<ContainerStatus> {
        wait::until_some("the container to end", wait::PATIENCE, || async {
            let status = self.cri.status(container).await.ok()?;
            (status.state() == ContainerState::ContainerExited).then_some(status)
        })
        .await
    }

    /// Runs a container in a pod of its own until it ends with 0, and removes the pod; the lines it printed.
    pub async fn output(&self, config: &ContainerConfig) -> Result<Vec<String>> {
        let running = self.run(crate::pod::pod(&self.slot, "script"), config).await?;
        let status = self.wait_exited(&running.container).await?;
        let lines = running.lines()?;
        anyhow::ensure!(status.exit_code == 0, "exit code {}: {lines:?}", status.exit_code);
        self.remove(&running.pod).await?;
        Ok(lines)
    }

    /// Runs a command in a container; its standard output, if it ended with 0.
    pub async fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        let answer = self
            .cri
            .exec(container, command, 20 * i64::from(wait::slowness()))
            .await
            .with_context(|| format!("exec {command:?}"))?;
        let (stdout, stderr) = (
            String::from_utf8_lossy(&answer.stdout),
            String::from_utf8_lossy(&answer.stderr),
        );
        anyhow::ensure!(
            answer.exit_code == 0,
            "exec {command:?}: exit code {}, {stdout}{stderr}",
            answer.exit_code
        );
        Ok(stdout.into_owned())
    }

    /// Stops and removes a pod.
    pub async fn remove(&self, pod: &str) -> Result<()> {
        self.cri.stop_pod(pod).await.context("StopPodSandbox")?;
        self.cri.remove_pod(pod).await.context("RemovePodSandbox")
    }

    /// Runs and removes a pod, so that what the daemon makes once (bridge, caches, folders) is there to be counted.
    pub async fn warm_up(&self, image: &str) -> Result<()> {
        let config = crate::pod::pod(&self.slot, "warm-up");
        let running = self
            .run(config, &crate::pod::idle("idle", image))
            .await
            .context("warming up")?;
        self.exec(&running.container, &["true"]).await?;
        self.remove(&running.pod).await
    }
}

/// The pause image of daemons that need one.
fn push_pause(registry: &Registry) -> Result<String> {
    let busybox = std::fs::read("/bin/busybox").context("read /bin/busybox")?;
    let layer = Layer::new().file("busybox", 0o755, busybox).finish();
    let image = Builder::new(Format::Oci)
        .layer(layer, Packing::Gzip)
        .config("Entrypoint", json!(["/busybox", "sleep", "2147483647"]))
        .build()?;
    registry.push(&image, "pause", "1")
}
