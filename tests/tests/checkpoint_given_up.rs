//! Checkpoints that nobody waits for any more: criu gives up, the container goes on as if nothing had been, nothing is left.
//!
//! Skipped, and says so, where `criu check` fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::CheckpointContainerRequest;
use pintle_tests::newer::checkpoint::{CheckpointPodRequest, checkpoint_pod};
use pintle_tests::world::{self, Running, World};
use pintle_tests::{criu, logs, pod, wait};
use tokio::task::JoinHandle;

/// Counts, beside a process that has memory enough for criu to take its time: tail waits for the end of what it keeps.
const COUNTER: &str = "{ head -c 96000000 /dev/zero; echo > /full; sleep 100000; } | tail -c 96000000 > /dev/null & \
                       while [ ! -e /full ]; do sleep 0.05; done; \
                       i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

async fn counter(w: &World) -> Result<Running> {
    let image = w.busybox().await?;
    let config = pod::shell("counter", &image, COUNTER);
    let running = w.run(pod::pod(&w.slot, "counter"), &config).await?;
    counts_on(&running.log).await?;
    Ok(running)
}

fn numbers(log: &Path) -> Vec<u64> {
    let lines = logs::read(log).map(|records| logs::lines(&records, "stdout"));
    let lines = lines.unwrap_or_default();
    lines.iter().filter_map(|line| line.parse().ok()).collect()
}

/// It counts, and has left nothing out.
async fn counts_on(log: &Path) -> Result<()> {
    let last = numbers(log).last().copied().unwrap_or_default();
    let seen = wait::until_some("the counter", wait::PATIENCE, || async {
        Some(numbers(log)).filter(|seen| seen.last().is_some_and(|now| *now > last + 3))
    })
    .await?;
    ensure!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    Ok(())
}

/// The files of a container's memory, wherever below the daemon's folder they are being written.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            let name = entry.file_name();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pages(&path),
                _ if name.to_string_lossy().starts_with("pages-") => vec![path],
                _ => Vec::new(),
            }
        })
        .collect()
}

/// Waits until criu has begun to write the memory down.
async fn memory_is_written(w: &World) -> Result<()> {
    let root = w.slot.root();
    wait::until_some("criu at work", wait::PATIENCE, || async {
        (!pages(&root).is_empty()).then_some(())
    })
    .await
}

/// Asks for a checkpoint, and returns once criu has begun to write the memory down.
async fn checkpoint_at_work(w: &World, running: &Running, archive: &Path) -> Result<JoinHandle<Result<()>>> {
    let mut runtime = w.cri.runtime.clone();
    let request = CheckpointContainerRequest {
        container_id: running.container.clone(),
        location: archive.display().to_string(),
        timeout: 0,
    };
    let call = tokio::spawn(async move {
        runtime.checkpoint_container(request).await?;
        Ok(())
    });
    memory_is_written(w).await?;
    Ok(call)
}

/// The container goes on, nothing of the attempt is left, and the next one succeeds.
async fn nothing_has_been(w: &World, running: &Running, archive: &Path) -> Result<()> {
    let root = w.slot.root();
    wait::until_some("the files to be gone", wait::PATIENCE, || async {
        pages(&root).is_empty().then_some(())
    })
    .await?;
    counts_on(&running.log).await?;
    let folder = archive.parent().context("a folder")?;
    let name = archive
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();
    for entry in fs::read_dir(folder)? {
        let found = entry?.file_name().to_string_lossy().into_owned();
        ensure!(!found.contains(&name), "{found} is left");
    }
    criu::checkpoint(w, &running.container, archive)
        .await
        .context("the next one")?;
    fs::remove_file(archive)?;
    counts_on(&running.log).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_whose_caller_goes_is_given_up() {
    if !criu::works("a checkpoint whose caller goes") {
        return;
    }
    world::test_with(criu::setup().expect("a daemon"), async |w| {
        let running = counter(w).await?;
        let archive = w.slot.root().join("gone.tar");
        let call = checkpoint_at_work(w, &running, &archive).await?;
        call.abort();
        nothing_has_been(w, &running, &archive).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_s_checkpoint_whose_caller_goes_is_given_up() {
    if !criu::works("a pod's checkpoint whose caller goes") {
        return;
    }
    world::test_with(criu::setup().expect("a daemon"), async |w| {
        let running = counter(w).await?;
        let output = w.slot.root().join("pod");
        fs::create_dir(&output)?;
        let channel = w.cri.channel.clone();
        let request = CheckpointPodRequest {
            pod_sandbox_id: running.pod.clone(),
            output_path: output.display().to_string(),
            container_ids: vec![running.container.clone()],
            ..CheckpointPodRequest::default()
        };
        let call =
            tokio::spawn(
                async move { checkpoint_pod(&channel, request, Some(Duration::from_secs(60))).await },
            );
        memory_is_written(w).await?;
        call.abort();
        nothing_has_been(w, &running, &w.slot.root().join("after.tar")).await?;
        ensure!(fs::read_dir(&output)?.next().is_none(), "files are left");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_meanwhile_leaves_nothing_frozen() {
    if !criu::works("a daemon that dies while criu dumps") {
        return;
    }
    world::test_with(criu::setup().expect("a daemon"), async |w| {
        let running = counter(w).await?;
        let archive = w.slot.root().join("died.tar");
        let call = checkpoint_at_work(w, &running, &archive).await?;
        w.server.kill();
        ensure!(call.await?.is_err(), "the daemon is dead");
        counts_on(&running.log).await.context("without a daemon")?;
        w.start().await?;
        nothing_has_been(w, &running, &archive).await
    })
    .await;
}
