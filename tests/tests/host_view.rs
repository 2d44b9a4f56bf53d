//! What the host sees of running pods: no overlay mounts, no pause processes, nothing more than needed.

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::NamespaceMode;
use pintle_tests::server::Kind;
use pintle_tests::world::{self, World};
use pintle_tests::{host, pod};

/// The processes in the pods' cgroups, by what they run.
fn processes(w: &World) -> Vec<String> {
    host::pids_in_cgroup(&w.slot.cgroup())
        .into_iter()
        .map(host::cmdline)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_overlay_mount_and_no_pause_process_while_pods_run() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let overlays = |w: &World| -> Result<usize> {
            let all = host::mounts("self")?;
            let root = w.slot.root().display().to_string();
            Ok(all
                .iter()
                .filter(|m| m.fs_type == "overlay" && m.options.contains(&root))
                .count())
        };
        for number in 0..3 {
            let config = pod::pod(&w.slot, &format!("pod-{number}"));
            w.run(config, &pod::container("one", &image, &["sleep", "600"]))
                .await?;
        }
        ensure!(overlays(w)? == 0, "overlay mounts on the host");
        let inside = host::mounts(&w.server.pid()?.to_string())?;
        ensure!(
            inside
                .iter()
                .all(|m| m.fs_type != "overlay" || !m.options.contains("pintle-t")),
            "in the daemon"
        );
        let processes = processes(w);
        let sleeping = processes.iter().filter(|line| line.contains("sleep 600")).count();
        ensure!(sleeping == 3, "{processes:?}");
        let others: Vec<_> = processes
            .iter()
            .filter(|p| !p.contains("sleep 600") && !p.contains("pintle-monitor"))
            .collect();
        ensure!(others.is_empty(), "besides the pods' own processes: {others:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_shares_processes_has_an_init_that_reaps() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let mut config = pod::pod(&w.slot, "shared");
        let mut container = pod::shell("one", &image, "sleep 600 & exec sleep 601");
        let options = config
            .linux
            .as_mut()
            .and_then(|l| l.security_context.as_mut()?.namespace_options.as_mut());
        options.expect("namespace options").pid = NamespaceMode::Pod.into();
        let options = pod::security(&mut container).namespace_options.as_mut();
        options.expect("namespace options").pid = NamespaceMode::Pod.into();

        let running = w.run(config.clone(), &container).await?;
        let mut second = pod::idle("two", &image);
        pod::security(&mut second).namespace_options =
            pod::security(&mut container).namespace_options.clone();
        let second = w.add(&running.pod, &config, &second).await?;
        let seen = w.exec(&second, &["ps"]).await?;
        ensure!(
            seen.contains("sleep 601"),
            "the second container sees the first's processes: {seen}"
        );

        w.cri.stop(&running.container, 0).await?;
        let seen = w.exec(&second, &["ps"]).await?;
        ensure!(
            !seen.contains("sleep 60"),
            "killed with its children and reaped: {seen}"
        );
        w.remove(&running.pod).await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_have_namespaces_of_their_own() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "namespaces");
        let first = w.run(config.clone(), &pod::idle("one", &image)).await?;
        let second = w.add(&first.pod, &config, &pod::idle("two", &image)).await?;
        for (kind, shared) in [
            ("net", true),
            ("ipc", true),
            ("uts", true),
            ("pid", false),
            ("mnt", false),
        ] {
            let path = format!("/proc/self/ns/{kind}");
            let one = w.exec(&first.container, &["readlink", &path]).await?;
            let two = w.exec(&second, &["readlink", &path]).await?;
            let host = std::fs::read_link(&path)?;
            ensure!((one == two) == shared, "{kind}: {one} and {two}");
            ensure!(one.trim() != host.to_string_lossy(), "{kind} is the host's");
        }
        Ok(())
    })
    .await;
}

/// What one monitor may keep for itself with one container running, in KiB.
const MONITOR_BUDGET: u64 = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_stays_within_its_memory() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let running = w
            .run(
                pod::pod(&w.slot, "small"),
                &pod::shell("one", &image, "seq 1 10000; sleep 600"),
            )
            .await?;
        for _ in 0..5 {
            w.exec(&running.container, &["true"]).await?;
        }
        let pids = host::pids_naming(&w.slot.state());
        let monitor = pids
            .into_iter()
            .find(|pid| host::cmdline(*pid).contains("pintle-monitor"));
        let (private, _) = host::memory(monitor.context("a monitor")?)?;
        ensure!(private <= MONITOR_BUDGET, "{private} KiB private");
        Ok(())
    })
    .await;
}
