//! Images and registries that are wrong or hostile: a clear error each, and nothing left behind.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::PullImageRequest;
use pintle_tests::check::refused;
use pintle_tests::image::{self, Builder, Format, Image, Layer, Packing};
use pintle_tests::mem_registry::{MemRegistry, blob_path, manifest_path};
use pintle_tests::world::{self, World};
use pintle_tests::{cri, pod, registry};
use serde_json::json;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn references_and_registries_that_do_not_answer() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let before = w.count()?;
        let absent = format!("{}/absent:1", w.registry.host());
        refused("an unknown image", w.cri.pull(&absent).await, "absent")?;
        for garbage in [
            "",
            "UPPER/case",
            "a//b",
            "host:port:port/x",
            "x@sha256:short",
            "../../etc",
        ] {
            let answer = w.cri.pull(garbage).await;
            refused(&format!("the reference {garbage:?}"), answer, "")?;
        }
        let down = format!("127.0.0.1:{}/x:1", registry::free_port()?);
        let error = refused("a registry that is down", w.cri.pull(&down).await, "")?;
        ensure!(error.message().starts_with("RegistryUnavailable"), "{error:?}");
        ensure!(
            error.code() == Code::Unknown,
            "kubelet takes the text of Unknown only: {error:?}"
        );
        ensure!(
            w.cri.image(&image).await?.is_some(),
            "the good image is still there"
        );
        w.assert_nothing_left(&before).await
    })
    .await;
}

/// A small image with two layers.
fn small() -> Result<Image> {
    let layer = |word: &str| Layer::new().file(word, 0o644, word.repeat(1000)).finish();
    Builder::new(Format::Oci)
        .layer(layer("one"), Packing::Gzip)
        .layer(layer("two"), Packing::Plain)
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies() {
    world::test(async |w| {
        let before = w.count()?;
        let lying = MemRegistry::start()?;
        let made = small()?;
        let layer = &made.blobs[1].digest;
        let other = Builder::new(Format::Oci)
            .layer(Layer::new().finish(), Packing::Gzip)
            .build()?;

        let reference = lying.serve(&made, "digest", "1");
        lying.tamper(&blob_path("digest", layer), |a| {
            a.body = other.blobs[1].bytes.clone();
        });
        refused("another layer's bytes", w.cri.pull(&reference).await, layer)?;

        let reference = lying.serve(&made, "flipped", "1");
        lying.tamper(&blob_path("flipped", layer), |a| {
            *a.body.last_mut().expect("a body") ^= 1;
        });
        refused("a flipped bit", w.cri.pull(&reference).await, layer)?;

        let reference = lying.serve(&made, "short", "1");
        lying.tamper(&blob_path("short", layer), |a| {
            a.claimed_length = Some(a.body.len());
            a.body.truncate(20);
        });
        refused("a body cut short", w.cri.pull(&reference).await, "")?;

        let reference = lying.serve(&made, "config", "1");
        lying.tamper(&blob_path("config", made.id()), |a| {
            a.body = other.blobs[0].bytes.clone();
        });
        refused(
            "another image's configuration",
            w.cri.pull(&reference).await,
            made.id(),
        )?;

        let tagged = lying.serve(&made, "manifest", "1");
        let digest = &made.top().digest;
        lying.tamper(&manifest_path("manifest", digest), |a| {
            a.body = other.top().bytes.clone();
        });
        let by_digest = format!("{}@{digest}", tagged.trim_end_matches(":1"));
        refused(
            "another manifest than asked for",
            w.cri.pull(&by_digest).await,
            "",
        )?;

        ensure!(
            w.cri.image_list().await?.iter().all(|i| i.id != made.id()),
            "a bad image is listed"
        );
        w.assert_nothing_left(&before).await?;
        let reference = lying.serve(&made, "honest", "1");
        ensure!(
            w.cri.pull(&reference).await? == made.id(),
            "the same layers, rightly"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_whose_diff_ids_lie() {
    world::test(async |w| {
        let before = w.count()?;
        let mut made = small()?;
        let config: serde_json::Value = serde_json::from_slice(&made.blobs[0].bytes)?;
        let mut lied = config.clone();
        lied["rootfs"]["diff_ids"][0] = json!(image::digest(b"something else"));
        made = made.with_config(&lied)?;
        let reference = w.registry.push(&made, "diff", "1")?;
        refused("a diff id that lies", w.cri.pull(&reference).await, "")?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_given_up_leaves_nothing() {
    world::test(async |w| {
        let before = w.count()?;
        let slow = MemRegistry::start()?;
        let made = small()?;
        let reference = slow.serve(&made, "slow", "1");
        slow.tamper(&blob_path("slow", &made.blobs[1].digest), |a| {
            a.delay = Duration::from_secs(2);
        });
        let mut request = tonic::Request::new(PullImageRequest {
            image: Some(cri::spec(&reference)),
            ..Default::default()
        });
        request.set_timeout(Duration::from_millis(300));
        let error = w
            .cri
            .images
            .clone()
            .pull_image(request)
            .await
            .expect_err("the time is up");
        ensure!(
            matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled),
            "{error:?}"
        );
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tars_that_reach_outside() {
    world::test(async |w| {
        let before = w.count()?;
        let target = w.slot.root().join("target");
        fs::create_dir_all(&target)?;
        fs::write(target.join("file"), "untouched")?;
        let target = target.display().to_string();
        let up = "../".repeat(20);
        let into = format!("{up}{}", target.trim_start_matches('/'));
        let cases = [
            ("dotdot", Layer::new().file("../evil", 0o644, "evil")),
            (
                "inner",
                Layer::new().dir("a", 0o755).file("a/../../evil", 0o644, "evil"),
            ),
            ("far", Layer::new().file(&format!("{into}/evil"), 0o644, "evil")),
            (
                "symlink",
                Layer::new()
                    .symlink("out", &target)
                    .file("out/evil", 0o644, "evil"),
            ),
            (
                "relative",
                Layer::new().symlink("out", &into).file("out/evil", 0o644, "evil"),
            ),
            (
                "overwrite",
                Layer::new()
                    .symlink("out", &target)
                    .file("out/file", 0o644, "evil"),
            ),
            (
                "hard-up",
                Layer::new().hard_link("stolen", &format!("{into}/file")),
            ),
            (
                "hard-absolute",
                Layer::new().hard_link("stolen", &format!("{target}/file")),
            ),
            (
                "hard-through",
                Layer::new()
                    .symlink("out", &target)
                    .hard_link("stolen", "out/file"),
            ),
            (
                "whiteout",
                Layer::new().symlink("out", &target).whiteout("out/file"),
            ),
            ("opaque", Layer::new().symlink("out", &target).opaque("out")),
        ];
        for (name, layer) in cases {
            let base = Layer::new().file("base", 0o644, "base").finish();
            let made = Builder::new(Format::Oci)
                .layer(base, Packing::Gzip)
                .layer(layer.finish(), Packing::Gzip)
                .build()?;
            let reference = w.registry.push(&made, name, "1")?;
            refused(name, w.cri.pull(&reference).await, "")?;
            check_untouched(w, &target).context(name)?;
        }
        ensure!(
            w.cri.image_list().await?.iter().all(|i| !i.repo_tags.is_empty()),
            "nothing half-made is listed"
        );
        w.assert_nothing_left(&before).await
    })
    .await;
}

/// The folder outside holds what it held, and nothing evil appeared above the store.
fn check_untouched(w: &World, target: &str) -> Result<()> {
    let names: Vec<_> = fs::read_dir(target)?.flatten().map(|e| e.file_name()).collect();
    ensure!(names == ["file"], "the folder outside holds {names:?}");
    ensure!(fs::read_to_string(format!("{target}/file"))? == "untouched");
    let found = pintle_tests::host::find_named(&w.slot.root(), "evil");
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_links_that_only_look_outside_stay_inside() {
    world::test(async |w| {
        let target = w.slot.root().join("target");
        fs::create_dir_all(&target)?;
        fs::write(target.join("file"), "untouched")?;
        let outside = target.display().to_string();
        let layer = image::busybox_layer()?
            .file("/absolute", 0o644, "in the root")
            .symlink("swapped", &format!("{outside}/file"))
            .file("swapped", 0o644, "a file in the link's place")
            .symlink("etc/outside", &outside)
            .symlink(
                "volume",
                &format!("{}{}", "../".repeat(20), outside.trim_start_matches('/')),
            );
        let made = Builder::new(Format::Oci)
            .layer(layer.finish(), Packing::Gzip)
            .build()?;
        let reference = w.registry.push(&made, "inside", "1")?;
        w.cri.pull(&reference).await?;
        // A mount below a link that seems to lead to the host is made inside the container.
        let source = w.slot.root().join("source");
        fs::create_dir_all(&source)?;
        let config = pod::with_mount(
            pod::idle("one", &reference),
            &source.display().to_string(),
            "/volume/deep",
            false,
        );
        let running = w.run(pod::pod(&w.slot, "inside"), &config).await?;
        let read = w
            .exec(&running.container, &["cat", "/absolute", "/swapped"])
            .await?;
        ensure!(read == "in the roota file in the link's place", "{read:?}");
        w.exec(&running.container, &["touch", "/volume/deep/made-inside"])
            .await?;
        ensure!(source.join("made-inside").exists(), "the mount is there");
        let names: Vec<_> = fs::read_dir(&target)?.flatten().map(|e| e.file_name()).collect();
        ensure!(names == ["file"], "the folder outside holds {names:?}");
        ensure!(fs::read_to_string(target.join("file"))? == "untouched");
        Ok(())
    })
    .await;
}
