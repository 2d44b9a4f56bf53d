//! Many at once.

use anyhow::{Context, Result, ensure};
use pintle_tests::cri::Cri;
use pintle_tests::pod;
use pintle_tests::world;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pods_at_once_twice_in_a_row() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        for round in 0..2 {
            let mut tasks = JoinSet::new();
            for number in 0..20 {
                let config = pod::pod(&w.slot, &format!("pod-{round}-{number}"));
                let container = pod::idle("one", &image);
                let cri = w.cri.clone();
                tasks.spawn(async move { run(&cri, &config, &container).await });
            }
            let mut pods = Vec::new();
            let mut addresses = std::collections::BTreeSet::new();
            while let Some(done) = tasks.join_next().await {
                let (id, ip) = done?.with_context(|| format!("round {round}"))?;
                ensure!(addresses.insert(ip.clone()), "{ip} was given twice");
                pods.push(id);
            }
            remove_all(&w.cri, pods).await?;
            w.assert_nothing_left(&before)
                .await
                .with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
    .await;
}

async fn run(
    cri: &Cri,
    config: &k8s_cri::v1::PodSandboxConfig,
    container: &k8s_cri::v1::ContainerConfig,
) -> Result<(String, String)> {
    let id = cri.run_pod(config).await.context("RunPodSandbox")?;
    let created = cri
        .create(&id, config, container)
        .await
        .context("CreateContainer")?;
    cri.start(&created).await.context("StartContainer")?;
    let answer = cri
        .exec(&created, &["echo", "up"], 30)
        .await
        .context("ExecSync")?;
    ensure!(answer.stdout == b"up\n", "{answer:?}");
    Ok((id.clone(), cri.pod_ip(&id).await.context("PodSandboxStatus")?))
}

async fn remove_all(cri: &Cri, pods: Vec<String>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for id in pods {
        let cri = cri.clone();
        tasks.spawn(async move {
            cri.stop_pod(&id).await.context("StopPodSandbox")?;
            cri.remove_pod(&id).await.context("RemovePodSandbox")
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_image_pulled_by_many_at_once() {
    world::test(async |w| {
        let made = pintle_tests::image::busybox()?;
        let reference = w.registry.push(&made, "busybox", "latest")?;
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (cri, reference) = (w.cri.clone(), reference.clone());
            tasks.spawn(async move { cri.pull(&reference).await });
        }
        while let Some(done) = tasks.join_next().await {
            ensure!(done?? == made.id());
        }
        ensure!(
            w.cri
                .image_list()
                .await?
                .iter()
                .filter(|i| i.id == made.id())
                .count()
                == 1
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_with_the_same_name_wins() {
    world::test(async |w| {
        let config = pod::pod(&w.slot, "contested");
        let mut tasks = JoinSet::new();
        for _ in 0..6 {
            let (cri, config) = (w.cri.clone(), config.clone());
            tasks.spawn(async move { cri.run_pod(&config).await });
        }
        let mut winners = Vec::new();
        while let Some(done) = tasks.join_next().await {
            winners.extend(done?.ok());
        }
        // A runtime may also hand a creation under way to everybody who asks for it.
        winners.dedup();
        ensure!(winners.len() == 1, "{winners:?}");
        ensure!(w.cri.pods().await?.len() == 1, "one pod is listed");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_stopped_and_removed_by_many_at_once_goes_once() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let running = w
            .run(pod::pod(&w.slot, "contested"), &pod::idle("one", &image))
            .await?;
        let mut tasks = JoinSet::new();
        for number in 0..8 {
            let (cri, id) = (w.cri.clone(), running.pod.clone());
            tasks.spawn(async move {
                if number % 2 == 0 {
                    cri.stop_pod(&id).await
                } else {
                    cri.remove_pod(&id).await
                }
            });
        }
        // Of the removals at once, some may be refused; afterwards all is gone, or goes with the next call.
        while let Some(done) = tasks.join_next().await {
            let _ = done?;
        }
        w.cri.remove_pod(&running.pod).await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_holds_no_more_files_after_many_cycles() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let pid = w.server.pid()?;
        let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count);
        let before = open()?;
        for number in 0..20 {
            let config = pod::pod(&w.slot, &format!("cycle-{number}"));
            let running = w.run(config, &pod::idle("one", &image)).await?;
            w.exec(&running.container, &["true"]).await?;
            w.remove(&running.pod).await?;
        }
        let mut after = 0;
        pintle_tests::wait::until(
            "descriptors to be closed",
            std::time::Duration::from_secs(5),
            || {
                after = open().unwrap_or(usize::MAX);
                // A handful for what the daemon opens when it likes.
                after <= before + 4
            },
        )
        .with_context(|| format!("{before} open files grew to {after}"))
    })
    .await;
}
