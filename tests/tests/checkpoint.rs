//! Checkpoints: containers that go on elsewhere, and pods.
//!
//! Skipped, and says so, where `criu check` fails. What happens before criu is asked is tested in `bad_checkpoints.rs`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{ContainerConfig, ContainerState, Mount, PodSandboxConfig};
use pintle_tests::check::refused;
use pintle_tests::criu::{checkpoint, made_of};
use pintle_tests::newer::checkpoint::{CheckpointPodRequest, RestorePodRequest, checkpoint_pod, restore_pod};
use pintle_tests::world::{self, Running, World};
use pintle_tests::{criu, image, pod, wait};

/// Counts to its log through a pipe and to a file that it holds open, serves HTTP, has deleted a file of its image.
const COUNTER: &str = "rm /www/second.html; exec 3>/kept; /bin/busybox httpd -f -p 8080 -h /www & \
                       { i=0; while :; do i=$((i+1)); echo count $i; echo $i >&3; sleep 0.05; done; } | cat";

fn counter(name: &str, image: &str) -> ContainerConfig {
    pod::shell(name, image, COUNTER)
}

/// The numbers in a log so far.
fn numbers(log: &Path) -> Vec<u64> {
    let lines = pintle_tests::logs::read(log).map(|records| pintle_tests::logs::lines(&records, "stdout"));
    lines
        .unwrap_or_default()
        .iter()
        .filter_map(|line| line.strip_prefix("count ")?.parse().ok())
        .collect()
}

async fn wait_for(log: &Path, more_than: u64) -> Result<Vec<u64>> {
    wait::until_some("the counter", wait::PATIENCE, || async {
        Some(numbers(log)).filter(|seen| seen.last().is_some_and(|last| *last > more_than))
    })
    .await
}

fn in_order(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

fn fetch(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// An image with a second file to be deleted.
async fn base(w: &World) -> Result<String> {
    let layer = image::Layer::new()
        .file("www/second.html", 0o644, "second")
        .finish();
    let made = image::Builder::new(image::Format::Oci)
        .layer(image::busybox_layer()?.finish(), image::Packing::Gzip)
        .layer(layer, image::Packing::Gzip)
        .build()?;
    let reference = w.registry.push(&made, "counter", "latest")?;
    w.cri.pull(&reference).await?;
    Ok(reference)
}

/// Starts what was restored from `archive` and checks that it goes on where it was.
async fn goes_on(w: &World, archive: &str, config: &ContainerConfig, least: u64) -> Result<Running> {
    let pod_config = pod::pod(&w.slot, "restored");
    let pod = w.cri.run_pod(&pod_config).await?;
    let config = made_of(config, archive);
    let container = w
        .cri
        .create(&pod, &pod_config, &config)
        .await
        .context("restore")?;
    let status = w.cri.status(&container).await?;
    ensure!(status.state() == ContainerState::ContainerCreated, "{status:?}");
    let log = PathBuf::from(&pod_config.log_directory).join(&config.log_path);
    ensure!(numbers(&log).is_empty(), "nothing runs before it is started");
    w.cri.start(&container).await.context("start what was restored")?;
    let seen = wait_for(&log, least + 10).await?;
    ensure!(seen[0] >= least && in_order(&seen), "{least}: {seen:?}");
    let kept = w.exec(&container, &["cat", "/kept"]).await?;
    let kept: Vec<u64> = kept.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(kept[0] == 1 && in_order(&kept), "{kept:?}");
    let gone = w.cri.exec(&container, &["cat", "/www/second.html"], 20).await?;
    ensure!(gone.exit_code != 0, "a deleted file is back");
    let address = format!("{}:8080", w.cri.pod_ip(&pod).await?);
    ensure!(
        fetch(&address)?.contains("served by busybox"),
        "the socket listens on"
    );
    Ok(Running {
        pod,
        pod_config,
        container,
        log,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_survives_checkpoint_removal_and_restore_also_on_another_daemon() {
    if !criu::works("checkpoint and restore of a container") {
        return;
    }
    world::test_with(criu::setup().expect("a daemon"), async |w| {
        let image = base(w).await?;
        // stays, so that the bridge keeps its carrier
        w.run(pod::pod(&w.slot, "anchor"), &pod::idle("anchor", &image))
            .await?;
        let before = w.count()?;
        let config = counter("counter", &image);
        let running = w.run(pod::pod(&w.slot, "counter"), &config).await?;
        let seen = wait_for(&running.log, 5).await?;
        let least = seen[seen.len() - 1];
        let archive = w.slot.root().join("archive.tar");
        checkpoint(w, &running.container, &archive)
            .await
            .context("CheckpointContainer")?;
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&archive)?) & 0o777;
        ensure!(mode == 0o600, "mode {mode:o}");

        // it goes on, and no line is lost or written twice
        let last = numbers(&running.log).last().copied().unwrap_or_default();
        let seen = wait_for(&running.log, last + 5).await?;
        ensure!(seen[0] == 1 && in_order(&seen), "{seen:?}");
        w.remove(&running.pod).await?;

        let restored = goes_on(w, &archive.display().to_string(), &config, least).await?;
        // what was restored is a container like any other
        let again = w.slot.root().join("again.tar");
        checkpoint(w, &restored.container, &again)
            .await
            .context("once more")?;
        w.restart().await?;
        let status = w.cri.status(&restored.container).await?;
        ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
        w.cri.stop(&restored.container, 0).await?;
        ensure!(
            w.cri.status(&restored.container).await?.exit_code == 137,
            "stopped"
        );
        w.remove(&restored.pod).await?;

        // an image made of the archive's files
        let layer = fs::read(&archive)?;
        let made = image::Builder::new(image::Format::Oci)
            .layer(layer, image::Packing::Gzip)
            .annotation("io.kubernetes.cri-o.annotations.checkpoint.name", "counter")
            .build()?;
        let reference = w.registry.push(&made, "checkpoint", "latest")?;
        w.cri.pull(&reference).await?;
        let restored = goes_on(w, &reference, &config, least)
            .await
            .context("from an image")?;
        w.remove(&restored.pod).await?;
        w.cri.remove_image(&reference).await?;
        w.assert_nothing_left(&before).await?;

        // another daemon, with other folders, to which the archive is brought
        let other = World::new(criu::setup()?).await?;
        base(&other).await?;
        let restored = goes_on(&other, &again.display().to_string(), &config, least).await;
        let restored = restored.with_context(|| format!("elsewhere: {}", other.server.log_tail(20)))?;
        other.remove(&restored.pod).await
    })
    .await;
}

fn pod_counter(name: &str, image: &str, volume: &Path) -> ContainerConfig {
    let script =
        "exec 4>>/dev/shm/shared; i=0; while :; do i=$((i+1)); echo count $i; echo $i >&4; sleep 0.05; done";
    let mut config = pod::shell(name, image, script);
    config.mounts.push(Mount {
        container_path: "/volume".to_owned(),
        host_path: volume.display().to_string(),
        readonly: true,
        ..Default::default()
    });
    config
}

fn restore_request(
    folder: &Path,
    config: &PodSandboxConfig,
    containers: &[ContainerConfig],
) -> RestorePodRequest {
    RestorePodRequest {
        checkpoint_path: folder.display().to_string(),
        config: Some(config.clone()),
        container_configs: containers.to_vec(),
        ..RestorePodRequest::default()
    }
}

/// CheckpointPod of what can't be checkpointed so. Nothing is written.
async fn refused_checkpoints(
    w: &World,
    request: &CheckpointPodRequest,
    limit: Option<Duration>,
) -> Result<()> {
    for (wrong, names) in [
        (
            CheckpointPodRequest {
                container_ids: vec![],
                ..request.clone()
            },
            "container_ids",
        ),
        (
            CheckpointPodRequest {
                container_ids: vec![request.container_ids[1].clone(); 2],
                ..request.clone()
            },
            "twice",
        ),
        (
            CheckpointPodRequest {
                options: [("a".to_owned(), "b".to_owned())].into(),
                ..request.clone()
            },
            "options",
        ),
        (
            CheckpointPodRequest {
                output_path: "relative".to_owned(),
                ..request.clone()
            },
            "absolute",
        ),
        (
            CheckpointPodRequest {
                output_path: w.slot.root().display().to_string(),
                ..request.clone()
            },
            "empty",
        ),
    ] {
        refused(names, checkpoint_pod(&w.cri.channel, wrong, limit).await, names)?;
    }
    refused(
        "no deadline",
        checkpoint_pod(&w.cri.channel, request.clone(), None).await,
        "deadline",
    )?;
    ensure!(
        fs::read_dir(&request.output_path)?.next().is_none(),
        "nothing is written by what is refused"
    );
    Ok(())
}

/// RestorePod of what is not what was checkpointed.
async fn refused_restores(w: &World, whole: &RestorePodRequest, configs: &[ContainerConfig]) -> Result<()> {
    let with = |configs: &[ContainerConfig]| RestorePodRequest {
        container_configs: configs.to_vec(),
        ..whole.clone()
    };
    let mut other = configs.to_vec();
    other[1].command[2] = "sleep 1".to_owned();
    for (wrong, names) in [
        (with(&configs[..1]), "container_configs"),
        (with(&[configs[0].clone(), configs[0].clone()]), "twice"),
        (with(&other), "command"),
        (
            RestorePodRequest {
                runtime_handler: "none".to_owned(),
                ..whole.clone()
            },
            "none",
        ),
        (
            RestorePodRequest {
                checkpoint_path: "/nowhere".to_owned(),
                ..whole.clone()
            },
            "pod.options",
        ),
    ] {
        refused(names, restore_pod(&w.cri.channel, wrong).await, names)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_two_containers_is_checkpointed_and_restored() {
    if !criu::works("checkpoint and restore of a pod") {
        return;
    }
    world::test_with(criu::setup().expect("a daemon"), async |w| {
        let image = w.busybox().await?;
        // stays, so that the bridge keeps its carrier
        w.run(pod::pod(&w.slot, "anchor"), &pod::idle("anchor", &image))
            .await?;
        let before = w.count()?;
        let volume = w.slot.root().join("volume");
        fs::create_dir_all(&volume)?;
        let configs = [
            pod_counter("one", &image, &volume),
            pod_counter("two", &image, &volume),
        ];
        let first = w.run(pod::pod(&w.slot, "pair"), &configs[0]).await?;
        let second = w.add(&first.pod, &first.pod_config, &configs[1]).await?;
        let log =
            |pod: &PodSandboxConfig, name: &str| PathBuf::from(&pod.log_directory).join(name).join("0.log");
        let least = *wait_for(&first.log, 5).await?.last().context("a number")?;
        wait_for(&log(&first.pod_config, "two"), 5).await?;

        let folder = w.slot.root().join("pod");
        fs::create_dir_all(&folder)?;
        let request = CheckpointPodRequest {
            pod_sandbox_id: first.pod.clone(),
            output_path: folder.display().to_string(),
            container_ids: vec![first.container.clone(), second.clone()],
            ..CheckpointPodRequest::default()
        };
        let limit = Some(Duration::from_secs(60));
        refused_checkpoints(w, &request, limit).await?;
        checkpoint_pod(&w.cri.channel, request, limit)
            .await
            .context("CheckpointPod")?;
        let now = *numbers(&first.log).last().context("a number")?;
        wait_for(&first.log, now + 3).await.context("it goes on")?;
        let contents = host_files(&folder)?;
        w.remove(&first.pod).await?;

        let config = pod::pod(&w.slot, "pair-again");
        let whole = restore_request(&folder, &config, &configs);
        refused_restores(w, &whole, &configs).await?;
        w.assert_nothing_left(&before)
            .await
            .context("after what was refused")?;

        let restored = restore_pod(&w.cri.channel, whole).await.context("RestorePod")?;
        let names: Vec<&str> = restored
            .restored_containers
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        ensure!(names == ["one", "two"], "{names:?}");
        for container in &restored.restored_containers {
            w.cri.start(&container.container_id).await?;
            let seen = wait_for(&log(&config, &container.name), least + 5).await?;
            ensure!(seen[0] > 1 && in_order(&seen), "{seen:?}");
            let shared = w
                .exec(&container.container_id, &["cat", "/dev/shm/shared"])
                .await?;
            ensure!(shared.starts_with("1\n"), "what was in shared memory: {shared:?}");
        }
        ensure!(host_files(&folder)? == contents, "a checkpoint is only read");
        w.remove(&restored.pod_sandbox_id).await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

/// Names, sizes and times of a folder's files.
fn host_files(folder: &Path) -> Result<Vec<(PathBuf, u64, std::time::SystemTime)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        all.push((
            entry.path(),
            entry.metadata()?.len(),
            entry.metadata()?.modified()?,
        ));
    }
    all.sort();
    Ok(all)
}
