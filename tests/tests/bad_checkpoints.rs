//! Checkpoints that are wrong or hostile: a clear error each, and nothing left. None of this needs a criu that works.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::PodSandboxConfig;
use pintle_tests::check::refused;
use pintle_tests::criu::{checkpoint, made_of};
use pintle_tests::leaks::Count;
use pintle_tests::world::{self, World};
use pintle_tests::{criu, image, pod};
use serde_json::json;
use tonic::Code;

/// A checkpoint that is whole but for criu's own files.
fn hollow(image_id: &str, diff: &[u8]) -> image::Layer {
    let config = format!(r#"{{"id":"x","name":"x","rootfsImageRef":"{image_id}"}}"#);
    // what every container of a pod has
    let mounts = ["/dev/shm", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]
        .map(|path| json!({"destination": path, "type": "bind", "source": path, "options": ["rbind"]}));
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}});
    let spec = json!({"ociVersion": "1.0.2", "process": process, "mounts": mounts});
    image::Layer::new()
        .file("config.dump", 0o600, config)
        .file("spec.dump", 0o600, spec.to_string())
        .file("checkpoint/inventory.img", 0o600, "no image")
        .file("rootfs-diff.tar", 0o600, diff)
}

type Case = (&'static str, Vec<u8>, &'static str);

/// What is no archive, or not a whole one: what it is, its bytes, and what the refusal names.
fn broken(id: &str, evil: &str) -> Vec<Case> {
    let file = tar::EntryType::Regular;
    let layer = image::Layer::new;
    let empty = layer().finish();
    let whole = hollow(id, &empty).finish();
    let ends = hollow(id, b"something").finish();
    vec![
        ("nothing", Vec::new(), "cut off"),
        ("no tar", vec![b'x'; 4096], "cut off"),
        ("half", whole[..whole.len() / 2].to_vec(), "cut off"),
        ("no end", ends[..ends.len() - 1024].to_vec(), "cut off"),
        ("empty", empty.clone(), "cut off"),
        (
            "without images",
            layer().file("config.dump", 0o600, "{}").finish(),
            "missing",
        ),
        (
            "a symlink",
            layer().symlink("config.dump", evil).finish(),
            "plain file",
        ),
        (
            "a link",
            layer()
                .entry("checkpoint/pages-1.img", tar::EntryType::Link, 0o600, evil, &[])
                .finish(),
            "plain file",
        ),
        (
            "no json",
            layer()
                .file("checkpoint/inventory.img", 0o600, "x")
                .file("config.dump", 0o600, "{")
                .finish(),
            "config.dump",
        ),
        (
            "another image",
            hollow(&"1".repeat(64), &empty).finish(),
            "pull it first",
        ),
        (
            "twice",
            layer()
                .entry("spec.dump", file, 0o600, "", b"1")
                .entry("spec.dump", file, 0o600, "", b"2")
                .finish(),
            "twice",
        ),
    ]
}

/// What would write or delete elsewhere, at `evil` or below `root`.
fn leading_out(id: &str, evil: &str, root: &str) -> Vec<Case> {
    let layer = image::Layer::new;
    let empty = layer().finish();
    vec![
        (
            "a path outside",
            hollow(id, &layer().file("../../outside", 0o644, "x").finish()).finish(),
            "leads out",
        ),
        (
            "an absolute link",
            hollow(
                id,
                &layer()
                    .symlink("out", evil)
                    .file("out", 0o644, "x")
                    .entry("in", tar::EntryType::Link, 0o644, evil, &[])
                    .finish(),
            )
            .finish(),
            "in:",
        ),
        (
            "through a symlink",
            hollow(
                id,
                &layer()
                    .symlink("out", root)
                    .file("out/outside", 0o644, "x")
                    .finish(),
            )
            .finish(),
            "out/outside",
        ),
        (
            "a whiteout's device",
            hollow(
                id,
                &layer()
                    .entry("dev0", tar::EntryType::Char, 0o644, "", &[])
                    .finish(),
            )
            .finish(),
            "dev0",
        ),
        (
            "deleting outside",
            hollow(id, &empty)
                .file("deleted.files", 0o600, r#"["/../../outside"]"#)
                .finish(),
            "leads out",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_are_wrong_or_hostile_leave_nothing() {
    let mut setup = criu::setup().expect("a daemon");
    // it is not asked for anything in here but, at the end, whether it can work with nonsense
    if !Path::new(&criu::program()).exists() {
        setup.extra_config = "[checkpoint]\ncriu = \"/bin/false\"".to_owned();
    }
    world::test_with(setup, async |w| {
        let image = w.busybox().await?;
        let id = w.cri.image(&image).await?.context("pulled")?.id;
        w.warm_up(&image).await?;
        let config = pod::pod(&w.slot, "hostile");
        let pod = w.cri.run_pod(&config).await?;
        // what a pod's first container leaves until the pod goes
        let first = w.add(&pod, &config, &pod::idle("first", &image)).await?;
        w.cri.remove(&first).await?;
        let before = w.count()?;
        let outside = w.slot.root().join("outside");
        fs::write(&outside, "untouched")?;
        let evil = outside.display().to_string();
        let root = w.slot.root().display().to_string();
        let empty = image::Layer::new().finish();
        let mut cases = broken(&id, &evil);
        cases.extend(leading_out(&id, &evil, &root));
        for (what, bytes, names) in cases {
            let archive = w.slot.root().join("hostile.tar");
            fs::write(&archive, bytes)?;
            let container = made_of(&pod::idle("bad", &image), &archive.display().to_string());
            let error = refused(what, w.cri.create(&pod, &config, &container).await, names)?;
            ensure!(!error.message().is_empty(), "{what}");
            ensure!(fs::read_to_string(&outside)? == "untouched", "{what}");
            w.assert_nothing_left(&before)
                .await
                .with_context(|| what.to_owned())?;
        }
        nonsense_to_criu(w, (&pod, &config), &image, &hollow(&id, &empty).finish(), &before).await?;
        requests_that_can_not_be(w, (&pod, &config), &image).await
    })
    .await;
}

/// criu's own images are nonsense: it, or its absence, is what fails.
async fn nonsense_to_criu(
    w: &World,
    (pod, config): (&str, &PodSandboxConfig),
    image: &str,
    whole: &[u8],
    before: &Count,
) -> Result<()> {
    let archive = w.slot.root().join("hostile.tar");
    fs::write(&archive, whole)?;
    let container = made_of(&pod::idle("bad", image), &archive.display().to_string());
    let error = w
        .cri
        .create(pod, config, &container)
        .await
        .expect_err("no process");
    ensure!(
        !error.message().is_empty() && error.code() != Code::Unknown,
        "{error:?}"
    );
    w.assert_nothing_left(before)
        .await
        .context("images that are none")
}

async fn requests_that_can_not_be(
    w: &World,
    (pod, config): (&str, &PodSandboxConfig),
    image: &str,
) -> Result<()> {
    let missing = made_of(&pod::idle("bad", image), "/nowhere/archive.tar");
    w.cri.create(pod, config, &missing).await.expect_err("no archive");
    // the name is free again
    let good = w.add(pod, config, &pod::idle("bad", image)).await?;
    let location = w.slot.root().join("none.tar");
    refused(
        "a relative path",
        checkpoint(w, &good, Path::new("none.tar")).await,
        "location",
    )?;
    refused(
        "an unknown container",
        checkpoint(w, &"0".repeat(64), &location).await,
        "not found",
    )?;
    w.cri.stop(&good, 0).await?;
    refused(
        "a container that ended",
        checkpoint(w, &good, &location).await,
        "running",
    )?;
    ensure!(!location.exists(), "nothing is written");
    Ok(())
}
