//! Containers: life cycle, what the image says, signals, ends.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{ContainerState, KeyValue};
use pintle_tests::world::{self, Running};
use pintle_tests::{cri, image, pod};
use serde_json::json;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn goes_through_created_running_and_exited() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "life");
        let sandbox = w.cri.run_pod(&config).await?;
        let id = w
            .cri
            .create(&sandbox, &config, &pod::shell("one", &image, "sleep 0.2; exit 7"))
            .await?;
        let status = w.cri.status(&id).await?;
        ensure!(status.state() == ContainerState::ContainerCreated, "{status:?}");
        ensure!(
            status.created_at > 0 && status.started_at == 0 && status.finished_at == 0,
            "{status:?}"
        );

        w.cri.start(&id).await?;
        let status = w.cri.status(&id).await?;
        ensure!(status.started_at >= status.created_at, "{status:?}");
        ensure!(
            std::path::Path::new(&status.log_path).exists(),
            "the log exists once the start is answered"
        );
        w.cri.start(&id).await.expect_err("a container starts once");

        let status = w.wait_exited(&id).await?;
        ensure!(status.exit_code == 7 && status.reason == "Error", "{status:?}");
        ensure!(status.finished_at > status.started_at, "{status:?}");
        ensure!(
            status.image_ref.contains("sha256:") && !status.image_id.is_empty(),
            "{status:?}"
        );

        w.cri.remove(&id).await?;
        w.cri.remove(&id).await.context("removing twice")?;
        let error = w.cri.status(&id).await.expect_err("removed");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_the_images_command_as_the_images_user_in_the_images_folder() {
    world::test(async |w| {
        let made = image::Builder::new(image::Format::Oci)
            .layer(image::busybox_layer()?.finish(), image::Packing::Gzip)
            .config("Entrypoint", json!(["/bin/sh", "-c"]))
            .config("Cmd", json!(["echo $(id -u):$(id -g) $(pwd) $WORD $0"]))
            .config("Env", json!(["PATH=/bin", "WORD=from-image"]))
            .config("User", json!("www-data"))
            .config("WorkingDir", json!("/www"))
            .build()?;
        let reference = w.registry.push(&made, "configured", "latest")?;
        w.cri.pull(&reference).await?;

        let plain = pod::container("plain", &reference, &[]);
        let running = w.run(pod::pod(&w.slot, "configured"), &plain).await?;
        w.wait_exited(&running.container).await?;
        ensure!(
            running.lines()? == ["33:33 /www from-image /bin/sh"],
            "{:?}",
            running.lines()?
        );

        // Arguments take the place of Cmd, and the environment is merged.
        let mut changed = pod::container("changed", &reference, &[]);
        changed.args = vec!["echo $WORD $OTHER $(pwd)".into()];
        changed.working_dir = "/tmp".into();
        changed.envs.push(KeyValue {
            key: "WORD".into(),
            value: "from-config".into(),
        });
        changed.envs.push(KeyValue {
            key: "OTHER".into(),
            value: "too".into(),
        });
        let running = w.run(pod::pod(&w.slot, "changed"), &changed).await?;
        w.wait_exited(&running.container).await?;
        ensure!(
            running.lines()? == ["from-config too /tmp"],
            "{:?}",
            running.lines()?
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_signals_first_and_kills_after_the_grace_period() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "stops");
        let polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
        let running = w
            .run(config.clone(), &pod::shell("polite", &image, polite))
            .await?;
        wait_ready(&running).await?;
        let start = Instant::now();
        w.cri.stop(&running.container, 60).await?;
        let status = w.cri.status(&running.container).await?;
        ensure!(status.exit_code == 3, "the trap's exit code: {status:?}");
        ensure!(
            start.elapsed().as_secs() < 30,
            "a stop does not wait the whole grace period"
        );
        ensure!(running.lines()? == ["ready", "bye"], "{:?}", running.lines()?);

        let deaf = pod::shell(
            "deaf",
            &image,
            "trap '' TERM; echo ready; while :; do sleep 0.05; done",
        );
        let id = w.add(&running.pod, &config, &deaf).await?;
        let log = std::path::PathBuf::from(&config.log_directory).join(&deaf.log_path);
        wait_ready(&Running {
            container: id.clone(),
            log,
            ..running.clone()
        })
        .await?;
        w.cri.stop(&id, 1).await?;
        ensure!(
            w.cri.status(&id).await?.exit_code == 137,
            "killed after the grace period"
        );
        w.cri.stop(&id, 1).await.context("stopping what has ended")?;
        Ok(())
    })
    .await;
}

async fn wait_ready(running: &Running) -> Result<()> {
    pintle_tests::wait::until_some(
        "the container to be ready",
        pintle_tests::wait::PATIENCE,
        || async { running.lines().ok().filter(|lines| !lines.is_empty()) },
    )
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_of_the_daemons_is_open_in_a_container() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let lines = w
            .output(&pod::container("fds", &image, &["ls", "/proc/self/fd"]))
            .await?;
        // The fourth is the folder that ls reads.
        ensure!(lines == ["0", "1", "2", "3"], "{lines:?}");
        let running = w
            .run(pod::pod(&w.slot, "fds"), &pod::idle("idle", &image))
            .await?;
        let lines = w.exec(&running.container, &["ls", "/proc/self/fd"]).await?;
        ensure!(
            lines.split_whitespace().eq(["0", "1", "2", "3"]),
            "in an exec: {lines:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_may_be_named_by_its_id_and_removed_while_in_use() {
    world::test(async |w| {
        let reference = w.busybox().await?;
        let id = w.cri.image(&reference).await?.context("pulled")?.id;
        let running = w.run(pod::pod(&w.slot, "by-id"), &pod::idle("one", &id)).await?;
        let listed = w.cri.containers().await?;
        ensure!(listed.len() == 1 && listed[0].image_id == id, "{listed:?}");
        ensure!(listed[0].image.as_ref() == Some(&cri::spec(&id)), "{listed:?}");
        w.cri.remove_image(&reference).await?;
        ensure!(w.exec(&running.container, &["cat", "/www/index.html"]).await? == "served by busybox\n");
        let status = w.cri.status(&running.container).await?;
        ensure!(status.image_id == id, "{status:?}");
        Ok(())
    })
    .await;
}
