//! A container's root: the image's layers, its own above them, the places of common mounts below.

use anyhow::{Context, Result, ensure};
use pintle_tests::image::{self, Builder, Format, Layer, Packing};
use pintle_tests::pod;
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::{self, World};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_images_make_of_etc_its_files_are_the_pods() {
    world::test(async |w| {
        for (name, layers, taken) in [
            ("none", vec![], 0),
            (
                "own",
                vec![Layer::new().file("etc/hosts", 0o600, "the image's")],
                0,
            ),
            (
                "removed",
                vec![
                    Layer::new().file("etc/hosts", 0o600, "the image's"),
                    Layer::new().whiteout("etc/hosts"),
                ],
                1,
            ),
            ("opaque", vec![Layer::new().dir("etc", 0o755).opaque("etc")], 3),
            (
                "link",
                vec![
                    Layer::new().whiteout("etc"),
                    Layer::new().dir("real", 0o755).symlink("etc", "/real"),
                ],
                3,
            ),
        ] {
            let mut builder =
                Builder::new(Format::Oci).layer(image::busybox_layer()?.finish(), Packing::Gzip);
            for layer in layers {
                builder = builder.layer(layer.finish(), Packing::Gzip);
            }
            let reference = w.registry.push(&builder.build()?, name, "latest")?;
            w.cri.pull(&reference).await?;
            let running = w
                .run(pod::pod(&w.slot, name), &pod::idle("one", &reference))
                .await?;

            let hosts = w.exec(&running.container, &["cat", "/etc/hosts"]).await?;
            ensure!(hosts.contains("localhost"), "{name}: {hosts:?}");
            let told = w.exec(&running.container, &["cat", "/etc/hostname"]).await?;
            let is = w.exec(&running.container, &["hostname"]).await?;
            ensure!(told.trim() == is.trim(), "{name}: {told:?}, {is:?}");
            if w.server.kind() == Kind::Pintle {
                let made = made_in_etc(w, &running.container);
                ensure!(
                    made == taken,
                    "{name}: {made} files before the container has written any"
                );
            }
            w.remove(&running.pod).await?;
        }
        Ok(())
    })
    .await;
}

/// Files in the container's own layer, in `/etc` and where one of the images has that lead.
fn made_in_etc(w: &World, container: &str) -> usize {
    let snapshot = w.slot.root().join("daemon/images/snapshots").join(container);
    let files = |folder| std::fs::read_dir(snapshot.join("upper").join(folder)).map_or(0, Iterator::count);
    files("etc") + files("real")
}

/// The options of the overlay that a container sees as its root.
async fn root_options(w: &World, container: &str) -> Result<Vec<String>> {
    let table = w.exec(container, &["cat", "/proc/mounts"]).await?;
    let mut mounts = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = mounts.find(|mount| mount[1..3] == ["/", "overlay"]);
    let options = root.with_context(|| format!("no overlay at /: {table}"))?[3];
    Ok(options.split(',').map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_s_own_layer_is_synced_only_where_that_is_configured() {
    for (key, volatile) in [("", true), ("[runtime]\nsync_rootfs = true", false)] {
        let mut setup = Setup::from_env().expect("the daemon to test");
        if setup.kind != Kind::Pintle {
            return; // configured otherwise
        }
        setup.extra_config = key.to_owned();
        world::test_with(setup, async |w| {
            let image = w.busybox().await?;
            let running = w.run(pod::pod(&w.slot, "one"), &pod::idle("one", &image)).await?;
            let options = root_options(w, &running.container).await?;
            let is = options.iter().any(|option| option.contains("volatile"));
            ensure!(is == volatile, "{key:?}: {options:?}");
            w.exec(&running.container, &["sh", "-c", "echo x > /x; sync /x"])
                .await?;
            w.remove(&running.pod).await
        })
        .await;
    }
}
