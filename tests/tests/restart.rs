//! The daemon dies at any moment and nothing is lost: containers, log lines, exit codes, and what must be removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{ContainerState, PodSandboxState, ReopenContainerLogRequest};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use pintle_tests::server::Kind;
use pintle_tests::world::{self, Running, World};
use pintle_tests::{host, logs, pod};
use tokio::task::JoinSet;

/// Logs a numbered line every 10 ms without starting a process for it; says how many there were when told to end.
const LOGGER: &str = "mkfifo /clock; exec 3<>/clock; i=0; trap 'echo end $i; exit 0' TERM; \
                      while :; do echo line $i; i=$((i+1)); read -t 0.01 -u 3 x; done";

fn now() -> Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos(),
    )?)
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// A container that ends with `code` once somebody writes to the named pipe that is returned.
async fn ends_when_told(w: &World, name: &str, image: &str, code: u8) -> Result<(Running, PathBuf)> {
    let folder = w.slot.root().join(format!("control-{name}"));
    fs::create_dir_all(&folder)?;
    let pipe = folder.join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU)?;
    let config = pod::shell(
        name,
        image,
        &format!("read -r word < /control/pipe; echo told $word; exit {code}"),
    );
    let config = pod::with_mount(config, &folder.display().to_string(), "/control", false);
    Ok((w.run(pod::pod(&w.slot, name), &config).await?, pipe))
}

/// The logger's lines, checked to be whole, in order and without a gap. Answers with their number.
fn check_log(path: &Path) -> Result<usize> {
    let records = logs::read(path)?;
    let lines = logs::lines(&records, "stdout");
    let (last, numbered) = lines.split_last().context("an empty log")?;
    for (number, line) in numbered.iter().enumerate() {
        ensure!(
            *line == format!("line {number}"),
            "{}: line {number} is {line:?}",
            path.display()
        );
    }
    // The signal may come between the printing of a line and the counting of it.
    let counts = [numbered.len(), numbered.len().saturating_sub(1)];
    ensure!(
        counts.iter().any(|count| *last == format!("end {count}")),
        "{}: ends with {last:?}",
        path.display()
    );
    Ok(numbered.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_logging_pods_survive_a_kill_of_the_daemon() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let mut loggers = Vec::new();
        for number in 0..10 {
            let config = pod::pod(&w.slot, &format!("logger-{number}"));
            loggers.push(w.run(config, &pod::shell("logger", &image, LOGGER)).await?);
        }
        let (ending, pipe) = ends_when_told(w, "ending", &image, 7).await?;
        pause(300).await;

        w.server.kill();
        let logged = |l: &Running| l.lines().map(|lines| lines.len());
        let at_kill = loggers.iter().map(logged).collect::<Result<Vec<_>>>()?;
        let told_at = now()?;
        tokio::task::spawn_blocking(move || fs::write(pipe, "now\n")).await??;
        pause(700).await;
        for (logger, before) in loggers.iter().zip(at_kill) {
            ensure!(
                logged(logger)? > before,
                "logging goes on while there is no daemon"
            );
        }
        let restarted_at = now()?;
        w.start().await?;

        let status = w.cri.status(&ending.container).await?;
        ensure!(
            status.state() == ContainerState::ContainerExited && status.exit_code == 7,
            "{status:?}"
        );
        let finished = status.finished_at;
        ensure!(
            (told_at..restarted_at).contains(&finished),
            "{told_at} {finished} {restarted_at}: the true time"
        );
        ensure!(ending.lines()? == ["told now"], "{:?}", ending.lines()?);
        check_all_running(w, &loggers).await?;
        pause(200).await;
        stop_and_check(w, &loggers).await?;
        w.remove(&ending.pod).await?;
        ensure!(
            w.cri.pods().await?.is_empty() && w.cri.containers().await?.is_empty(),
            "nothing is listed any more"
        );
        w.assert_nothing_left(&before).await
    })
    .await;
}

async fn check_all_running(w: &World, loggers: &[Running]) -> Result<()> {
    let pods: BTreeMap<_, _> = w
        .cri
        .pods()
        .await?
        .into_iter()
        .map(|p| (p.id.clone(), p))
        .collect();
    let containers: BTreeMap<_, _> = w
        .cri
        .containers()
        .await?
        .into_iter()
        .map(|c| (c.id.clone(), c))
        .collect();
    for logger in loggers {
        let pod = pods.get(&logger.pod).context("a pod is not listed any more")?;
        ensure!(pod.state() == PodSandboxState::SandboxReady, "{pod:?}");
        ensure!(
            pod.metadata == logger.pod_config.metadata && pod.labels == logger.pod_config.labels,
            "{pod:?}"
        );
        let container = containers
            .get(&logger.container)
            .context("a container is not listed any more")?;
        ensure!(
            container.state() == ContainerState::ContainerRunning,
            "{container:?}"
        );
        ensure!(
            !w.cri.pod_ip(&logger.pod).await?.is_empty(),
            "the pod's address is lost"
        );
        ensure!(w.exec(&logger.container, &["echo", "alive"]).await? == "alive\n");
    }
    Ok(())
}

/// Stops every logger with grace, checks its exit and its log, and removes its pod.
async fn stop_and_check(w: &World, loggers: &[Running]) -> Result<()> {
    for logger in loggers {
        w.cri.stop(&logger.container, 10).await?;
        let status = w.cri.status(&logger.container).await?;
        ensure!(
            status.exit_code == 0 && status.reason == "Completed",
            "{status:?}"
        );
        let lines = check_log(&logger.log)?;
        ensure!(lines > 30, "only {lines} lines");
        w.remove(&logger.pod).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_works_on_containers_of_an_earlier_daemon() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let running = w
            .run(pod::pod(&w.slot, "old"), &pod::shell("logger", &image, LOGGER))
            .await?;
        let created = w
            .cri
            .create(&running.pod, &running.pod_config, &pod::idle("created", &image))
            .await?;
        let status = w.cri.status(&running.container).await?;
        for _ in 0..3 {
            w.restart().await?;
        }
        ensure!(
            w.cri.status(&running.container).await? == status,
            "the status is as it was"
        );
        w.cri
            .start(&created)
            .await
            .context("start what an earlier daemon created")?;
        w.add(&running.pod, &running.pod_config, &pod::idle("new", &image))
            .await?;

        let old = running.log.with_extension("log.old");
        fs::rename(&running.log, &old)?;
        let request = ReopenContainerLogRequest {
            container_id: running.container.clone(),
        };
        w.cri.runtime.clone().reopen_container_log(request).await?;
        ensure!(running.log.exists(), "reopened");
        let error = w
            .cri
            .run_pod(&running.pod_config)
            .await
            .expect_err("names are still reserved");
        ensure!(error.message().contains("old"), "{error:?}");
        w.cri.stop(&running.container, 10).await?;
        ensure!(w.cri.status(&running.container).await?.exit_code == 0);
        w.remove(&running.pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_anything_leaves_what_can_be_removed() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        for step in 0..12_u64 {
            let mut tasks = JoinSet::new();
            for number in 0..3 {
                let config = pod::pod(&w.slot, &format!("cut-{step}-{number}"));
                let (cri, image) = (w.cri.clone(), image.clone());
                tasks.spawn(async move {
                    let id = cri.run_pod(&config).await?;
                    let container = cri.create(&id, &config, &pod::idle("one", &image)).await?;
                    cri.start(&container).await?;
                    cri.exec(&container, &["true"], 10).await?;
                    cri.stop_pod(&id).await?;
                    cri.remove_pod(&id).await
                });
            }
            // The moments differ from step to step, and from machine to machine: all are right ones.
            pause(3 * step * step / 2).await;
            w.server.kill();
            while tasks.join_next().await.is_some() {}
            w.start().await.with_context(|| format!("step {step}"))?;
            for pod in w.cri.pods().await? {
                w.remove(&pod.id).await.with_context(|| format!("step {step}"))?;
            }
            ensure!(
                w.cri.containers().await?.is_empty(),
                "step {step}: containers without a pod"
            );
            w.assert_nothing_left(&before)
                .await
                .with_context(|| format!("step {step}"))?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_cut_off_leaves_nothing_and_works_again() {
    world::test(async |w| {
        let made = pintle_tests::image::busybox()?;
        let reference = w.registry.push(&made, "busybox", "latest")?;
        let before = w.count()?;
        for delay in [0, 2, 5, 10, 20, 40] {
            let (cri, wanted) = (w.cri.clone(), reference.clone());
            let pull = tokio::spawn(async move { cri.pull(&wanted).await });
            pause(delay).await;
            w.server.kill();
            let _ = pull.await?;
            w.start().await?;
            if w.cri.image(&reference).await?.is_some() {
                w.cri.remove_image(&reference).await?;
            }
            w.assert_nothing_left(&before)
                .await
                .with_context(|| format!("killed after {delay} ms"))?;
        }
        ensure!(w.cri.pull(&reference).await? == made.id());
        w.run(pod::pod(&w.slot, "after"), &pod::idle("one", &reference))
            .await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_monitor_was_killed_can_be_removed() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        for restart in [false, true] {
            let running = w
                .run(pod::pod(&w.slot, "orphan"), &pod::idle("one", &image))
                .await?;
            let is_monitor = |pid: &i32| {
                let line = host::cmdline(*pid);
                line.contains("pintle-monitor") && line.contains(&running.pod)
            };
            let monitors: Vec<i32> = host::pids_naming(&w.slot.state())
                .into_iter()
                .filter(is_monitor)
                .collect();
            ensure!(monitors.len() == 1, "one monitor a pod: {monitors:?}");
            if restart {
                w.server.kill();
            }
            kill(Pid::from_raw(monitors[0]), Signal::SIGKILL)?;
            if restart {
                w.start().await?;
            }
            let status = w.wait_exited(&running.container).await?;
            ensure!(status.exit_code != 0, "an unknown end is no success: {status:?}");
            w.remove(&running.pod).await?;
            w.assert_nothing_left(&before).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_end_of_the_daemon_leaves_pods_alone() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let running = w
            .run(pod::pod(&w.slot, "stays"), &pod::shell("logger", &image, LOGGER))
            .await?;
        let status = w.server.terminate(Duration::from_secs(10))?;
        ensure!(status.success(), "{status:?}");
        pause(100).await;
        w.start().await?;
        check_all_running(w, std::slice::from_ref(&running)).await?;
        w.cri.stop(&running.container, 10).await?;
        check_log(&running.log).map(drop)
    })
    .await;
}
