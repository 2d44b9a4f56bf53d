//! Archives as CRI-O makes them: runc has dumped the container, and `config.dump` says so.
//!
//! Skipped, and says so, where `criu check` fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pintle_tests::criu::made_of;
use pintle_tests::server::Kind;
use pintle_tests::world::{self, Running, World};
use pintle_tests::{criu, host, pod, wait};
use serde_json::json;

/// Where runc keeps its state, so that the test can speak with it too.
struct Root(PathBuf);

impl Root {
    fn config(&self) -> String {
        let root = self.0.display();
        format!("[runtimes.runc]\npath = \"/usr/sbin/runc\"\nroot = \"{root}\"\n")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What runc writes of the container, which then is no more, and the container's configuration.
fn dumped_by_runc(w: &World, root: &Path, container: &str, to: &Path) -> Result<PathBuf> {
    let images = to.join("checkpoint");
    fs::create_dir_all(&images)?;
    let done = Command::new("/usr/sbin/runc")
        .args(["--root", &root.display().to_string(), "--criu", &criu::program()])
        .args(["checkpoint", "--file-locks", "--tcp-established", "--work-path"])
        .arg(to)
        .arg("--image-path")
        .arg(&images)
        .arg(container)
        .output()?;
    let log = fs::read_to_string(to.join("dump.log")).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(5).collect();
    ensure!(done.status.success(), "runc checkpoint: {done:?}: {tail:?}");
    let bundle = host::find_named(&w.slot.state(), "config.json");
    bundle
        .into_iter()
        .find(|path| path.to_string_lossy().contains(container))
        .context("the bundle's config.json")
}

/// `config.dump` as CRI-O 1.36 writes it, the other files of its archives, and all of them in one tar.
fn archive(w: &World, folder: &Path, running: &Running, image: &str, spec: &Path) -> Result<PathBuf> {
    let snapshots = w.slot.root().join("daemon/images/snapshots");
    let layer = snapshots.join(&running.container).join("upper");
    let dump = json!({
        "id": running.container, "name": "k8s_counter", "rootfsImage": image,
        "rootfsImageName": image, "runtime": "runc",
        "createdTime": "2026-01-01T00:00:00.5Z", "checkpointedTime": "2026-01-01T00:00:01Z",
        "restoredTime": "0001-01-01T00:00:00Z", "restored": false,
    });
    fs::write(folder.join("config.dump"), dump.to_string())?;
    fs::copy(spec, folder.join("spec.dump"))?;
    fs::write(folder.join("bind.mounts"), "[]")?;
    let mut diff = tar::Builder::new(File::create(folder.join("rootfs-diff.tar"))?);
    diff.append_path_with_name(layer.join("kept"), "kept")?;
    diff.finish()?;
    let archive = folder.with_extension("tar");
    let mut tar = tar::Builder::new(File::create(&archive)?);
    tar.append_dir_all(".", folder)?;
    tar.finish()?;
    Ok(archive)
}

fn counts(log: &Path) -> Vec<u64> {
    let lines = pintle_tests::logs::read(log).map(|records| pintle_tests::logs::lines(&records, "stdout"));
    let numbers = lines.unwrap_or_default();
    numbers.iter().filter_map(|line| line.parse().ok()).collect()
}

async fn counted(log: &Path, more_than: u64) -> Result<Vec<u64>> {
    wait::until_some("the counter", wait::PATIENCE, || async {
        Some(counts(log)).filter(|seen| seen.last().is_some_and(|last| *last > more_than))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runc_has_dumped_goes_on_here() {
    if !criu::works("an archive made by runc") {
        return;
    }
    let mut setup = criu::setup().expect("a daemon");
    if setup.kind != Kind::Pintle {
        return; // configured otherwise
    }
    let root = Root(PathBuf::from(format!(
        "/run/pintle-test-runc-{}",
        std::process::id()
    )));
    setup.extra_config = format!("{}\n{}", setup.extra_config, root.config());
    world::test_with(setup, async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let script = "exec 3>/kept; i=0; while :; do i=$((i+1)); echo $i; echo $i >&3; sleep 0.05; done";
        let config = pod::shell("counter", &image, script);
        let theirs = w.run_on("runc", pod::pod(&w.slot, "theirs"), &config).await?;
        let seen = counted(&theirs.log, 5).await?;
        let least = seen[seen.len() - 1];
        let folder = w.slot.root().join("from-runc");
        let spec = dumped_by_runc(w, &root.0, &theirs.container, &folder)?;
        let archive = archive(w, &folder, &theirs, &image, &spec)?;
        w.remove(&theirs.pod).await?;

        let pod_config = pod::pod(&w.slot, "ours");
        let pod = w.cri.run_pod(&pod_config).await?;
        let config = made_of(&config, &archive.display().to_string());
        let ours = w
            .cri
            .create(&pod, &pod_config, &config)
            .await
            .context("restore")?;
        w.cri.start(&ours).await.context("start what was restored")?;
        let log = PathBuf::from(&pod_config.log_directory).join(&config.log_path);
        let seen = counted(&log, least + 10).await?;
        ensure!(
            seen[0] >= least && seen.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{least}: {seen:?}"
        );
        w.remove(&pod).await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}
