//! Image volumes: an image's files as a folder of a container, read-only, whole or in part.

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{ContainerConfig, Mount};
use pintle_tests::check::refused;
use pintle_tests::image::{Builder, Format, Layer, Packing};
use pintle_tests::server::Kind;
use pintle_tests::world::{self, World};
use pintle_tests::{cri, newer, pod};
use tonic::Code;

/// Pushes and pulls an image of two layers; its id.
async fn volume_image(w: &World) -> Result<String> {
    let lower = Layer::new()
        .file("data/old", 0o644, "old\n")
        .file("data/gone", 0o644, "gone\n")
        .file("data/sub/deep", 0o644, "deep\n")
        .symlink("short", "data/sub")
        .symlink("out", "../../../../../etc")
        .file("run.sh", 0o755, "#!/bin/sh\necho ran\n");
    let upper = Layer::new()
        .file("data/new", 0o644, "new\n")
        .whiteout("data/gone");
    let image = Builder::new(Format::Oci)
        .layer(lower.finish(), Packing::Gzip)
        .layer(upper.finish(), Packing::Zstd)
        .build()?;
    let reference = w.registry.push(&image, "volume", "latest")?;
    w.cri.pull(&reference).await.context("pull the volume's image")
}

fn with_image(mut config: ContainerConfig, image: &str, at: &str) -> ContainerConfig {
    config.mounts.push(Mount {
        container_path: at.to_owned(),
        image: Some(cri::spec(image)),
        readonly: true,
        ..Default::default()
    });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn show_the_whole_image_and_keep_it_while_they_are_used() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let busybox = w.busybox().await?;
        let volume = volume_image(w).await?;
        w.warm_up(&busybox).await?;
        let before = w.count()?;
        let config = with_image(pod::idle("one", &busybox), &volume, "/volume");
        let running = w.run(pod::pod(&w.slot, "volume"), &config).await?;
        let id = &running.container;
        let status = w.cri.status(id).await?;
        let mount = status
            .mounts
            .iter()
            .find(|m| m.container_path == "/volume")
            .context("the mount")?;
        ensure!(
            mount.readonly && mount.image.as_ref().is_some_and(|i| i.image == volume),
            "{mount:?}"
        );
        ensure!(
            newer::mounted_images(&w.cri.channel, id).await? == [volume.clone()],
            "image_ref"
        );
        w.cri.remove_image(&volume).await?;
        for _ in 0..2 {
            ensure!(
                w.exec(id, &["cat", "/volume/data/old", "/volume/data/new"])
                    .await?
                    == "old\nnew\n"
            );
            ensure!(
                w.exec(id, &["ls", "/volume/data"]).await? == "new\nold\nsub\n",
                "a whiteout hides"
            );
            ensure!(
                w.exec(id, &["/volume/run.sh"]).await? == "ran\n",
                "programs in it run"
            );
            let touch = w.cri.exec(id, &["touch", "/volume/x"], 10).await?;
            ensure!(touch.exit_code != 0, "it is read-only");
            w.restart().await?;
        }
        w.remove(&running.pod).await?;
        // The image went with its last user, so there is less than before.
        w.assert_nothing_left(&before).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn show_a_part_of_the_image_and_nothing_outside_it() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let busybox = w.busybox().await?;
        let volume = volume_image(w).await?;
        let pod_config = pod::pod(&w.slot, "part");
        let pod_id = w.cri.run_pod(&pod_config).await?;
        let create = async |name: &str, path: &str| {
            let config = pod::idle(name, &busybox);
            let mount = newer::ImageMount::new("/part", &volume, path);
            newer::create_with_image(&w.cri.channel, &pod_id, &pod_config, &config, mount).await
        };
        for (name, path, command, expected) in [
            ("merged", "data", ["ls", "/part"], "new\nold\nsub\n"),
            ("link", "short", ["cat", "/part/deep"], "deep\n"),
            ("file", "data/old", ["cat", "/part"], "old\n"),
        ] {
            let id = create(name, path)
                .await
                .with_context(|| format!("sub path {path}"))?;
            w.cri.start(&id).await?;
            let seen = w.exec(&id, &command).await?;
            ensure!(seen == expected, "{path}: {seen}");
        }
        for path in [
            "absent",
            "data/gone",
            "out",
            "out/passwd",
            "../x",
            "/etc",
            "data/old/x",
        ] {
            let error = create("bad", path)
                .await
                .err()
                .with_context(|| format!("{path} was accepted"))?;
            ensure!(
                error.message().starts_with("ImageVolumeMountFailed"),
                "{path}: {error:?}"
            );
            ensure!(error.code() == Code::InvalidArgument, "{path}: {error:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn are_refused_when_they_cannot_be() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let busybox = w.busybox().await?;
        let volume = volume_image(w).await?;
        w.warm_up(&busybox).await?;
        let pod_config = pod::pod(&w.slot, "bad");
        let pod_id = w.cri.run_pod(&pod_config).await?;
        let before = w.count()?;
        let good = || with_image(pod::idle("bad", &busybox), &volume, "/volume");
        let refuse = async |what: &str, config: &ContainerConfig, names: &str| {
            refused(what, w.cri.create(&pod_id, &pod_config, config).await, names)
        };
        let mut config = good();
        config.mounts[0].readonly = false;
        refuse("writable", &config, "ImageVolumeMountFailed").await?;
        let mut config = good();
        config.mounts[0].host_path = "/tmp".into();
        refuse("a host path too", &config, "host_path").await?;
        let absent = format!("{}/absent:1", w.registry.host());
        let config = with_image(pod::idle("bad", &busybox), &absent, "/volume");
        refuse("an image that is not here", &config, "ImageVolumeMountFailed").await?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn may_have_many_layers() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let busybox = w.busybox().await?;
        let mut builder = Builder::new(Format::Oci);
        for n in 0..40 {
            let layer = Layer::new()
                .file(&format!("file{n}"), 0o644, format!("{n}\n"))
                .finish();
            builder = builder.layer(layer, Packing::Gzip);
        }
        let reference = w.registry.push(&builder.build()?, "many", "latest")?;
        w.cri.pull(&reference).await?;
        let config = with_image(pod::idle("one", &busybox), &reference, "/many");
        let running = w.run(pod::pod(&w.slot, "many"), &config).await?;
        let seen = w
            .exec(&running.container, &["cat", "/many/file0", "/many/file39"])
            .await?;
        ensure!(seen == "0\n39\n", "{seen}");
        Ok(())
    })
    .await;
}
