//! A kubelet's sequences when things go wrong: either side starts anew, a deletion is forced, disks fill up.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{ContainerState, ReopenContainerLogRequest};
use pintle_tests::check::{equal, refused};
use pintle_tests::cri::Cri;
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::{self, World};
use pintle_tests::{cgroups, host, kubelet, logs, pod, wait};
use tokio::task::JoinSet;
use tonic::Status;

/// Logs numbered lines as fast as a shell does, with a rest now and then; says how many there were when told to end.
const LOGGER: &str = "i=0; trap 'echo end $i; exit 0' TERM; \
                      while :; do echo line $i; i=$((i+1)); [ $((i % 200)) != 0 ] || sleep 0.01; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_starts_anew_finds_all_as_it_was() {
    world::test(async |w| {
        let written = w.busybox().await?;
        let id = w.cri.image(&written).await?.context("the image")?.id;
        for name in ["one", "two", "three"] {
            let config = kubelet::pod(&w.slot, name)?;
            let wanted = [pod::idle("a", &written), pod::idle("b", &written)];
            kubelet::sync(&w.cri, &config, &wanted, (&id, &written)).await?;
        }
        let pods = w.cri.pods().await?;
        w.cri.stop(&w.cri.containers().await?[0].id, 10).await?;
        w.cri.stop_pod(&pods[0].id).await?;
        let seen = (w.cri.pods().await?, w.cri.containers().await?);
        let mut calls = JoinSet::new();
        for container in seen
            .1
            .iter()
            .filter(|c| c.state() == ContainerState::ContainerRunning)
        {
            let (cri, id) = (w.cri.clone(), container.id.clone());
            calls.spawn(async move { cri.exec(&id, &["sleep", "600"], 0).await });
        }
        let probing = || {
            let pids = host::pids_in_cgroup(&w.slot.cgroup());
            pids.into_iter()
                .filter(|pid| host::cmdline(*pid) == "sleep 600")
                .count()
        };
        let count = calls.len();
        wait::until("the probes", wait::PATIENCE, || probing() == count)?;
        // A kubelet that is killed leaves its calls where they are, and nobody waits for their answers.
        calls.abort_all();
        wait::until("the probes' end", wait::PATIENCE, || probing() == 0)?;
        for _ in 0..5 {
            w.cri = Cri::connect(w.server.socket()).await?;
            let sorted = |mut ids: Vec<(String, i32)>| {
                ids.sort();
                ids
            };
            let pods = w.cri.pods().await?;
            let containers = w.cri.containers().await?;
            equal(
                "pods",
                &sorted(pods.iter().map(|p| (p.id.clone(), p.state)).collect()),
                &sorted(seen.0.iter().map(|p| (p.id.clone(), p.state)).collect()),
            )?;
            equal(
                "containers",
                &sorted(containers.iter().map(|c| (c.id.clone(), c.state)).collect()),
                &sorted(seen.1.iter().map(|c| (c.id.clone(), c.state)).collect()),
            )?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_again_and_again_under_load_ends_with_every_pod_running_once() {
    world::test(async |w| {
        let written = w.busybox().await?;
        w.warm_up(&written).await?;
        let id = w.cri.image(&written).await?.context("the image")?.id;
        let wanted = [pod::idle("a", &written), pod::idle("b", &written)];
        let before = w.count()?;
        for finished in 0..5 {
            let configs = (0..5)
                .map(|number| kubelet::pod(&w.slot, &format!("load-{finished}-{number}")))
                .collect::<Result<Vec<_>>>()?;
            let mut syncs = JoinSet::new();
            for config in &configs {
                let (cri, config, wanted) = (w.cri.clone(), config.clone(), wanted.clone());
                let (id, written) = (id.clone(), written.clone());
                syncs.spawn(async move { kubelet::sync(&cri, &config, &wanted, (&id, &written)).await });
            }
            // Cut off once the first is begun, or so many are finished: the others are anywhere then.
            wait::until_some("a pod", wait::PATIENCE, || async {
                w.cri.pods().await.ok().filter(|pods| !pods.is_empty())
            })
            .await?;
            for _ in 0..finished {
                syncs.join_next().await.context("a pod's turn")???;
            }
            w.server.kill();
            while syncs.join_next().await.is_some() {}
            w.start().await?;
            for config in &configs {
                let context = || format!("{finished} finished, {:?}", config.metadata);
                let turn = kubelet::sync(&w.cri, config, &wanted, (&id, &written)).await;
                turn.with_context(context)?;
                check_runs_once(w, kubelet::uid(config))
                    .await
                    .with_context(context)?;
            }
            for config in &configs {
                kubelet::delete(&w.cri, kubelet::uid(config), 30).await?;
            }
        }
        w.cri
            .containers()
            .await?
            .is_empty()
            .then_some(())
            .context("containers without a pod")?;
        remove_kubelets_cgroups(w)?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

/// Removes the pods' cgroups, which are kubelet's.
fn remove_kubelets_cgroups(w: &World) -> Result<()> {
    for folder in host::cgroups_below(&w.slot.cgroup())? {
        cgroups::remove_empty(&folder)?;
    }
    Ok(())
}

/// One ready sandbox, and in it each container running once.
async fn check_runs_once(w: &World, uid: &str) -> Result<()> {
    let sandboxes = kubelet::sandboxes(&w.cri, uid).await?;
    let ready: Vec<_> = sandboxes.iter().filter(|s| s.state == 0).collect();
    ensure!(ready.len() == 1, "{sandboxes:?}");
    let containers = kubelet::containers(&w.cri, &ready[0].id).await?;
    let mut running: Vec<&str> = containers
        .iter()
        .filter(|c| c.state() == ContainerState::ContainerRunning)
        .filter_map(|c| Some(c.metadata.as_ref()?.name.as_str()))
        .collect();
    running.sort_unstable();
    ensure!(running == ["a", "b"], "{containers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_deletion_overtakes_a_graceful_one() {
    world::test(async |w| {
        let written = w.busybox().await?;
        w.warm_up(&written).await?;
        let config = kubelet::pod(&w.slot, "stubborn")?;
        let before = w.count()?;
        let script = "trap 'echo no' TERM; echo ready; while :; do sleep 600 & wait; done";
        let running = w
            .run(config.clone(), &pod::shell("main", &written, script))
            .await?;
        let shows = |line: &'static str| {
            let log = &running.log;
            move || logs::read(log).is_ok_and(|r| logs::lines(&r, "stdout").iter().any(|l| l == line))
        };
        wait::until("the trap", wait::PATIENCE, shows("ready"))?;
        let (cri, id) = (w.cri.clone(), running.container.clone());
        let graceful = tokio::spawn(async move { cri.stop(&id, 3600).await });
        wait::until("the signal", wait::PATIENCE, shows("no"))?;
        ensure!(!graceful.is_finished());
        w.cri.stop(&running.container, 0).await?;
        graceful.await?.context("the graceful one is answered too")?;
        let status = w.cri.status(&running.container).await?;
        equal("the exit code", &status.exit_code, &137)?;
        kubelet::delete(&w.cri, kubelet::uid(&config), 0).await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

async fn reopen(w: &World, id: &str) -> Result<(), Status> {
    let container_id = id.to_owned();
    let request = ReopenContainerLogRequest { container_id };
    w.cri
        .runtime
        .clone()
        .reopen_container_log(request)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_lose_no_line_also_when_the_daemon_is_away() {
    world::test(async |w| {
        let written = w.busybox().await?;
        let config = kubelet::pod(&w.slot, "rotated")?;
        let running = w.run(config, &pod::shell("main", &written, LOGGER)).await?;
        let mut parts: Vec<PathBuf> = Vec::new();
        for number in 0..6 {
            let rotated = running.log.with_extension(format!("log.{number}"));
            let has_lines = || fs::metadata(&running.log).is_ok_and(|m| m.len() > 10_000);
            wait::until("some lines", wait::PATIENCE, has_lines)?;
            fs::rename(&running.log, &rotated)?;
            if number % 2 == 1 {
                // The daemon is away: kubelet puts the file back and tries again in its next turn.
                w.server.kill();
                ensure!(reopen(w, &running.container).await.is_err());
                fs::rename(&rotated, &running.log)?;
                w.start().await?;
                fs::rename(&running.log, &rotated)?;
            }
            reopen(w, &running.container).await?;
            ensure!(running.log.is_file(), "the new file is there");
            parts.push(rotated);
        }
        w.cri.stop(&running.container, 30).await?;
        parts.push(running.log.clone());
        check_whole(&parts)?;
        w.remove(&running.pod).await
    })
    .await;
}

/// The logger's lines over all files: in order, none missing, none twice.
fn check_whole(parts: &[PathBuf]) -> Result<()> {
    let mut lines = Vec::new();
    for part in parts {
        lines.extend(logs::lines(&logs::read(part)?, "stdout"));
    }
    let (last, numbered) = lines.split_last().context("no lines")?;
    for (number, line) in numbered.iter().enumerate() {
        equal("a line", line, &format!("line {number}"))?;
    }
    // The signal may come between the printing of a line and the counting of it.
    let counts = [numbered.len(), numbered.len() - 1];
    ensure!(
        counts.iter().any(|n| *last == format!("end {n}")),
        "ends with {last:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_collected_by_id_also_under_a_running_container() {
    world::test(async |w| {
        let written = w.busybox().await?;
        let id = w.cri.image(&written).await?.context("the image")?.id;
        let config = kubelet::pod(&w.slot, "collected")?;
        let wanted = [pod::idle("main", &written)];
        kubelet::sync(&w.cri, &config, &wanted, (&id, &written)).await?;
        let listed = w.cri.containers().await?;
        ensure!(listed[0].image_id == id, "in use, as kubelet sees it: {listed:?}");
        for _ in 0..2 {
            w.cri.remove_image(&id).await?;
        }
        ensure!(w.cri.image_list().await?.is_empty());
        let container = &listed[0].id;
        equal("image_id", &w.cri.status(container).await?.image_id, &id)?;
        ensure!(w.exec(container, &["cat", "/etc/passwd"]).await?.contains("root"));
        w.restart().await?;
        ensure!(w.exec(container, &["echo", "alive"]).await? == "alive\n");
        w.cri.stop(container, 30).await?;
        let again = kubelet::sync(&w.cri, &config, &wanted, (&id, &written)).await;
        refused("a restart without the image", again, "image")?;
        equal("the image, pulled again", &w.cri.pull(&written).await?, &id)?;
        kubelet::sync(&w.cri, &config, &wanted, (&id, &written)).await?;
        kubelet::delete(&w.cri, kubelet::uid(&config), 30).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pinned_images_say_so_over_restarts_and_go_when_told_to() {
    let mut setup = Setup::from_env().expect("the daemon to test");
    setup.extra_config = "[images]\npinned = [\"127.0.0.1*\"]".into();
    world::test_with(setup, async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let written = w.busybox().await?;
        for _ in 0..2 {
            let listed = w.cri.image_list().await?;
            ensure!(listed.len() == 1 && listed[0].pinned, "{listed:?}");
            let status = w.cri.image(&written).await?.context("the image")?;
            ensure!(status.pinned, "{status:?}");
            w.restart().await?;
        }
        w.cri
            .remove_image(&w.cri.image_list().await?[0].id.clone())
            .await?;
        ensure!(w.cri.image_list().await?.is_empty(), "an explicit request counts");
        Ok(())
    })
    .await;
}
