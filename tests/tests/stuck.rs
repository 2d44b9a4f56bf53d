//! A pod that is stuck, by a frozen cgroup or a file system that doesn't answer, stalls no other and no question.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{ContainerState, RunPodSandboxRequest};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pintle_tests::wait::{self, PATIENCE, scaled};
use pintle_tests::world::{self, Running, World};
use pintle_tests::{host, pod};
use tokio::time::timeout;

/// Every question about everything, and the whole life of another pod.
async fn assert_others_go_on(w: &World, image: &str, stuck: &Running) -> Result<()> {
    let asked = async {
        ensure!(w.cri.pods().await?.iter().any(|pod| pod.id == stuck.pod));
        ensure!(w.cri.containers().await?.iter().any(|c| c.id == stuck.container));
        w.cri.pod_status(&stuck.pod).await?;
        ensure!(w.cri.status(&stuck.container).await?.state() == ContainerState::ContainerRunning);
        let other = w
            .run(pod::pod(&w.slot, "other"), &pod::idle("other", image))
            .await?;
        w.exec(&other.container, &["true"]).await?;
        w.remove(&other.pod).await
    };
    timeout(scaled(PATIENCE), asked)
        .await
        .context("others wait for the stuck pod")?
}

/// Freezes a container's processes, or lets them go on.
fn freeze(w: &World, container: &str, frozen: bool) -> Result<()> {
    let (v1, v2) = if frozen { ("FROZEN", "1") } else { ("THAWED", "0") };
    let mut found = false;
    for folder in host::cgroups_below(&w.slot.cgroup())? {
        if folder
            .file_name()
            .is_none_or(|name| !name.to_string_lossy().contains(container))
        {
            continue;
        }
        for (file, word) in [("freezer.state", v1), ("cgroup.freeze", v2)] {
            if folder.join(file).exists() {
                fs::write(folder.join(file), word)?;
                found = true;
            }
        }
    }
    ensure!(found, "no freezer for {container}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_container() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let stuck = w
            .run(pod::pod(&w.slot, "frozen"), &pod::idle("one", &image))
            .await?;
        freeze(w, &stuck.container, true)?;
        // It may fail or hang, as long as nobody else does.
        let (cri, id) = (w.cri.clone(), stuck.container.clone());
        let hanging = tokio::spawn(async move { cri.exec(&id, &["true"], 0).await });
        let others = assert_others_go_on(w, &image, &stuck).await;
        hanging.abort();
        if others.is_err() {
            freeze(w, &stuck.container, false)?;
        }
        others?;
        let stopped = timeout(scaled(PATIENCE), w.cri.stop(&stuck.container, 1)).await;
        if stopped.is_err() {
            freeze(w, &stuck.container, false)?;
        }
        stopped.context("what is frozen can't be stopped")??;
        w.remove(&stuck.pod).await
    })
    .await;
}

/// A file system whose server never answers; gone when dropped.
struct Hung {
    at: PathBuf,
    server: Option<File>,
}

impl Hung {
    fn mount(at: &Path) -> Result<Hung> {
        fs::create_dir_all(at)?;
        let server = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .context("open /dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(
            Some("hung"),
            at,
            Some("fuse"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .context("mount fuse")?;
        Ok(Hung {
            at: at.to_owned(),
            server: Some(server),
        })
    }

    /// The server is gone: whoever waits for it gets an error.
    fn abort(&mut self) {
        self.server = None;
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.abort();
        // Twice is no harm: nothing can be done about a failure here.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_does_not_answer() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let stuck = w
            .run(pod::pod(&w.slot, "hung"), &pod::idle("one", &image))
            .await?;
        let mut hung = Hung::mount(&w.slot.root().join("hung"))?;
        let inside = hung.at.join("volume").display().to_string();
        let config = pod::with_mount(pod::idle("two", &image), &inside, "/volume", false);
        let (cri, id, of) = (w.cri.clone(), stuck.pod.clone(), stuck.pod_config.clone());
        let creation = tokio::spawn(async move { cri.create(&id, &of, &config).await });
        let others = assert_others_go_on(w, &image, &stuck).await;
        let waited = !creation.is_finished();
        hung.abort();
        others?;
        ensure!(waited, "the creation did not touch its volume");
        timeout(scaled(PATIENCE), creation)
            .await??
            .expect_err("the volume is gone");
        timeout(scaled(PATIENCE), w.remove(&stuck.pod)).await?
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_caller_gave_up_is_handed_to_the_next() {
    world::test(async |w| {
        w.warm_up(&w.busybox().await?).await?;
        let config = pod::pod(&w.slot, "given-up");
        let request = || RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let mut runtime = w.cri.runtime.clone();
        // The call is left once the daemon has begun, as kubelet's is at its deadline.
        let pods = w.slot.state().join("pods");
        let first = || Some(fs::read_dir(&pods).ok()?.next()?.ok()?.file_name());
        let begun = async {
            loop {
                if let Some(pod) = first() {
                    return pod;
                }
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        };
        let begun = tokio::select! {
            biased;
            begun = timeout(scaled(PATIENCE), begun) => begun.context("nothing begins")?,
            _ = runtime.run_pod_sandbox(request()) => anyhow::bail!("the pod was there before anything began"),
        };
        // The daemon may hear of the retry before it has noticed that the first caller is gone; kubelet asks again then.
        let id = wait::until_some("the retry's answer", PATIENCE, || async {
            let answer = w.cri.runtime.clone().run_pod_sandbox(request()).await;
            answer.ok().map(|answer| answer.into_inner().pod_sandbox_id)
        })
        .await?;
        ensure!(begun == *id, "not the one that was begun: {begun:?}, {id}");
        let pods = w.cri.pods().await?;
        ensure!(pods.len() == 1 && pods[0].id == id, "{pods:?}");
        w.remove(&id).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_stop_shortens_the_time_that_an_earlier_one_gave() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::shell("one", &image, "trap '' TERM; while :; do sleep 1; done");
        let running = w.run(pod::pod(&w.slot, "patient"), &config).await?;
        let (cri, id) = (w.cri.clone(), running.container.clone());
        let patient = tokio::spawn(async move { cri.stop(&id, 110).await });
        w.cri.stop(&running.container, 1).await?;
        patient.await??;
        ensure!(w.cri.status(&running.container).await?.exit_code == 137);
        Ok(())
    })
    .await;
}
