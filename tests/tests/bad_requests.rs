//! Requests that are wrong or hostile: a clear error each, and nothing left behind.

use std::fs;

use anyhow::{Context, ensure};
use k8s_cri::v1::{Capability, ContainerConfig, ContainerState, Int64Value, RunPodSandboxRequest};
use pintle_tests::check::refused;
use pintle_tests::image::{self, Builder, Format, Packing};
use pintle_tests::{pod, world};
use serde_json::json;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_cannot_be() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let run = async |config, handler: &str| {
            let request = RunPodSandboxRequest {
                config,
                runtime_handler: handler.to_owned(),
            };
            w.cri.runtime.clone().run_pod_sandbox(request).await
        };
        refused("no configuration", run(None, "").await, "config")?;
        let config = pod::pod(&w.slot, "handler");
        refused(
            "an unknown handler",
            run(Some(config), "no-such-handler").await,
            "no-such-handler",
        )?;
        let mut config = pod::pod(&w.slot, "nameless");
        config.metadata = None;
        refused("no metadata", run(Some(config), "").await, "metadata")?;
        for (name, value) in [
            ("kernel.panic", "1"),
            ("net.ipv4.no_such_thing", "1"),
            ("net/../kernel/panic", "1"),
        ] {
            let mut config = pod::pod(&w.slot, "sysctl");
            config
                .linux
                .get_or_insert_default()
                .sysctls
                .insert(name.into(), value.into());
            run(Some(config), "")
                .await
                .err()
                .with_context(|| format!("sysctl {name} was accepted"))?;
        }
        ensure!(w.cri.pods().await?.is_empty(), "a refused pod is listed");
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_cannot_be() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let pod_config = pod::pod(&w.slot, "host");
        let id = w.cri.run_pod(&pod_config).await?;
        let before = w.count()?;
        let good = || pod::idle("bad", &image);
        let refuse = async |what: &str, config: &ContainerConfig, names: &str| {
            refused(what, w.cri.create(&id, &pod_config, config).await, names)
        };

        let mut config = good();
        config.metadata = None;
        refuse("no metadata", &config, "metadata").await?;
        let mut config = good();
        config.image = None;
        refuse("no image", &config, "image").await?;
        let absent = format!("{}/absent:1", w.registry.host());
        refuse(
            "an image that was not pulled",
            &pod::idle("bad", &absent),
            &absent,
        )
        .await?;
        let relative = pod::with_mount(good(), "/tmp", "relative/path", false);
        refuse("a relative mount path", &relative, "relative/path").await?;
        let mut config = good();
        pod::security(&mut config).run_as_group = Some(Int64Value { value: 5 });
        refuse("a group without a user", &config, "run_as_group").await?;
        let mut config = good();
        pod::security(&mut config).run_as_username = "nobody-knows".into();
        refuse("an unknown user", &config, "nobody-knows").await?;
        let mut config = good();
        pod::security(&mut config).privileged = true;
        refuse("privileged in a pod that is not", &config, "privileged").await?;
        let mut config = good();
        pod::security(&mut config).capabilities = Some(Capability {
            add_capabilities: vec!["FLY".into()],
            ..Default::default()
        });
        refuse("an unknown capability", &config, "FLY").await?;

        let error = w
            .cri
            .create(&"f".repeat(64), &pod_config, &good())
            .await
            .expect_err("an unknown pod");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        let error = w
            .cri
            .start(&"f".repeat(64))
            .await
            .expect_err("an unknown container");
        ensure!(error.code() == Code::NotFound, "{error:?}");

        ensure!(
            w.cri.containers().await?.is_empty(),
            "a refused container is listed"
        );
        w.assert_nothing_left(&before).await?;
        // The name is free again after all those failures.
        w.cri
            .create(&id, &pod_config, &good())
            .await
            .context("the same name, rightly")?;
        w.cri.stop_pod(&id).await?;
        refuse("a container in a stopped pod", &pod::idle("late", &image), "").await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_fails_the_start() {
    world::test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let pod_config = pod::pod(&w.slot, "start");
        let sandbox = w.cri.run_pod(&pod_config).await?;
        // What a pod keeps once it has had a container counts as there.
        let first = w
            .cri
            .create(&sandbox, &pod_config, &pod::idle("first", &image))
            .await?;
        w.cri.remove(&first).await?;
        let before = w.count()?;
        for (name, command) in [
            ("absent", "/no/such/program"),
            ("unfound", "no-such-program"),
            ("folder", "/www"),
        ] {
            let id = w
                .cri
                .create(&sandbox, &pod_config, &pod::container(name, &image, &[command]))
                .await?;
            let error = w.cri.start(&id).await.expect_err("nothing to run");
            ensure!(error.message().contains(command), "{error:?}");
            let status = w.cri.status(&id).await?;
            ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
            ensure!(
                status.exit_code == 128 && status.reason == "StartError",
                "{status:?}"
            );
            ensure!(
                status.finished_at > 0 && status.started_at > 0 && !status.message.is_empty(),
                "{status:?}"
            );
            w.cri.remove(&id).await?;
        }
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_users_are_not_the_containers() {
    world::test(async |w| {
        let database = w.slot.root().join("passwd");
        fs::write(&database, "intruder:x:4242:4242::/:/bin/sh\n")?;
        let layer = image::busybox_layer()?.symlink("etc/passwd", &database.display().to_string());
        let made = Builder::new(Format::Oci)
            .layer(layer.finish(), Packing::Gzip)
            .config("User", json!("intruder"))
            .build()?;
        let reference = w.registry.push(&made, "users", "1")?;
        w.cri.pull(&reference).await?;
        let pod_config = pod::pod(&w.slot, "users");
        let id = w.cri.run_pod(&pod_config).await?;
        let answer = w
            .cri
            .create(&id, &pod_config, &pod::idle("one", &reference))
            .await;
        refused("a user from the host's files", answer, "intruder")?;
        Ok(())
    })
    .await;
}
