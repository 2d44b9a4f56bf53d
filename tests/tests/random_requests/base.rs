//! The pod and the containers that requests name, and the texts that take the place of theirs.

use anyhow::Result;
use k8s_cri::v1::{Container, ContainerState, PodSandboxConfig, PodSandboxState};
use pintle_tests::world::World;
use pintle_tests::{logs, pod, wait};

/// What requests can name: made once, and again when a request took it away.
#[derive(Default)]
pub(crate) struct Base {
    /// How many requests were made from it.
    pub(crate) made: usize,
    /// The image's name.
    pub(crate) image: String,
    image_id: String,
    /// The pod.
    pub(crate) pod: String,
    /// Its configuration.
    pub(crate) config: PodSandboxConfig,
    /// A container that runs.
    pub(crate) running: String,
    /// A container that was never started.
    pub(crate) created: String,
    /// A folder of the test's.
    pub(crate) folder: String,
    /// The pods' addresses.
    pub(crate) subnet: String,
    cgroup: String,
}

impl Base {
    /// Brings about a ready pod with a running and a created container, and nothing beside it.
    pub(crate) async fn restore(&mut self, w: &World) -> Result<()> {
        self.made += 1;
        for pod in w.cri.pods().await?.iter().filter(|pod| pod.id != self.pod) {
            w.remove(&pod.id).await?;
        }
        let kept = [&self.running, &self.created];
        for container in w.cri.containers().await? {
            if !kept.contains(&&container.id) {
                w.cri.remove(&container.id).await?;
            }
        }
        if self.is_whole(w).await? {
            return Ok(());
        }
        self.clear(w).await?;
        self.image = w.busybox().await?;
        self.image_id = w.cri.pull(&self.image).await?;
        self.folder = w.slot.root().display().to_string();
        (self.subnet, self.cgroup) = (w.slot.subnet(), w.slot.cgroup());
        self.config = pod::pod(&w.slot, "base");
        let script = "trap 'exit 0' TERM; echo ready; sleep 86400 & wait";
        let running = w
            .run(self.config.clone(), &pod::shell("running", &self.image, script))
            .await?;
        wait::until("the trap", wait::PATIENCE, || {
            logs::read(&running.log).is_ok_and(|records| !records.is_empty())
        })?;
        let idle = pod::idle("created", &self.image);
        self.created = w.cri.create(&running.pod, &self.config, &idle).await?;
        (self.pod, self.running) = (running.pod, running.container);
        Ok(())
    }

    async fn is_whole(&self, w: &World) -> Result<bool> {
        let pods = w.cri.pods().await?;
        let containers = w.cri.containers().await?;
        let state = |id: &str| containers.iter().find(|c| c.id == id).map(Container::state);
        Ok(pods.len() == 1
            && pods[0].id == self.pod
            && pods[0].state() == PodSandboxState::SandboxReady
            && containers.len() == 2
            && state(&self.running) == Some(ContainerState::ContainerRunning)
            && state(&self.created) == Some(ContainerState::ContainerCreated)
            && w.cri.image_list().await?.len() == 1)
    }

    /// Removes every pod.
    pub(crate) async fn clear(&self, w: &World) -> Result<()> {
        for pod in w.cri.pods().await? {
            w.remove(&pod.id).await?;
        }
        Ok(())
    }
}

/// What a text becomes. Paths stay where the test may write; names of images lead to no other machine.
pub(crate) fn texts(base: &Base) -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        " ",
        "\n",
        "\0",
        "a\0b",
        "..",
        "../..",
        "../../escape",
        "a",
        "/",
        "//",
        "/proc/self/root",
        "%s%n",
        "-1",
        "18446744073709551616",
        "0-999999",
        "\u{202e}\u{feff}",
        "\u{e9}\u{6f22}\u{1f980}",
        "a=b,c",
        "ALL",
        "127.0.0.1:1/none:tag",
        "$(reboot)",
        "s0:c1,c2",
    ]
    .map(str::to_owned)
    .into();
    all.extend([
        "x".repeat(300),
        "x".repeat(70_000),
        "f".repeat(64),
        format!("sha256:{}", "0".repeat(64)),
        format!("{}/made/../made", base.folder),
        format!("{}/daemon/../../{}", base.folder, "../".repeat(64)),
        format!("{}/../..", base.cgroup),
        format!("{}/{}", base.cgroup, "d/".repeat(200)),
    ]);
    for id in [&base.pod, &base.running, &base.created, &base.image_id] {
        all.push(id.clone());
        all.push(id.chars().take(6).collect());
    }
    all
}
