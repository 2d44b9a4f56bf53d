//! Images: from a registry by tag and by digest, in every format and packing, and away again.

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::ImageFsInfoRequest;
use pintle_tests::image::{self, Builder, Format, Image, Layer, Packing};
use pintle_tests::pod;
use pintle_tests::world::{self, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_answers() {
    world::test(async |w| {
        w.cri.images.clone().image_fs_info(ImageFsInfoRequest {}).await?;
        let listed = w.cri.image_list().await?;
        ensure!(
            listed
                .iter()
                .all(|i| i.repo_tags.iter().all(|t| t.contains("pause"))),
            "images of a new store"
        );
        ensure!(
            w.cri.image("127.0.0.1:1/absent:1").await?.is_none(),
            "an unknown image has no status"
        );
        w.cri.remove_image("127.0.0.1:1/absent:1").await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_by_tag_and_by_digest_and_removes() {
    world::test(async |w| {
        let made = image::busybox()?;
        let tagged = w.registry.push(&made, "team/busybox", "1.0")?;
        let repository = tagged.trim_end_matches(":1.0").to_owned();

        let id = w.cri.pull(&tagged).await?;
        let found = w.cri.image(&tagged).await?.context("found by its tag")?;
        ensure!(
            found.id == made.id() && id == found.id,
            "id {} / {id}, expected {}",
            found.id,
            made.id()
        );
        ensure!(found.repo_tags == [tagged.as_str()], "tags {:?}", found.repo_tags);
        let digest = format!("{repository}@{}", made.top().digest);
        ensure!(
            found.repo_digests == [digest.as_str()],
            "digests {:?}",
            found.repo_digests
        );
        ensure!(found.size > 0, "size");

        for key in [id.as_str(), digest.as_str(), id.trim_start_matches("sha256:")] {
            let by_key = w
                .cri
                .image(key)
                .await?
                .with_context(|| format!("found by {key}"))?;
            ensure!(by_key.id == id, "{key} is {}", by_key.id);
        }
        w.cri.remove_image(&id).await?;
        ensure!(w.cri.image(&tagged).await?.is_none(), "removed");

        ensure!(w.cri.pull(&digest).await? == id, "pulled by digest");
        let found = w.cri.image(&digest).await?.context("found by its digest")?;
        ensure!(
            found.repo_tags.is_empty(),
            "a pull by digest brings no tag: {:?}",
            found.repo_tags
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_and_packing_unpacks_to_the_same() {
    world::test(async |w| {
        let base = image::busybox_layer()?.finish();
        let mut number = 0;
        for format in [Format::Oci, Format::Docker] {
            for indexed in [false, true] {
                for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
                    if format == Format::Docker && packing == Packing::Zstd {
                        continue;
                    }
                    number += 1;
                    let top =
                        Layer::new().file("made-as", 0o644, format!("{format:?} {packing:?} {indexed}"));
                    let mut builder = Builder::new(format)
                        .layer(base.clone(), Packing::Plain)
                        .layer(top.finish(), packing)
                        .config("Cmd", json!(["cat", "/made-as"]));
                    if indexed {
                        builder = builder.indexed();
                    }
                    let expected = format!("{format:?} {packing:?} {indexed}");
                    check_runs(w, &builder.build()?, &format!("made{number}"), &expected)
                        .await
                        .with_context(|| expected.clone())?;
                }
            }
        }
        Ok(())
    })
    .await;
}

/// Pulls an image and runs its own command, which prints `expected`.
async fn check_runs(w: &World, made: &Image, name: &str, expected: &str) -> Result<()> {
    let reference = w.registry.push(made, name, "latest")?;
    let id = w.cri.pull(&reference).await?;
    ensure!(id == made.id(), "id {id}, expected {}", made.id());
    let running = w
        .run(pod::pod(&w.slot, name), &pod::container("cat", &reference, &[]))
        .await?;
    let status = w.wait_exited(&running.container).await?;
    ensure!(status.exit_code == 0, "{status:?}");
    ensure!(running.lines()? == [expected], "printed {:?}", running.lines()?);
    w.remove(&running.pod).await
}

#[tokio::test(flavor = "multi_thread")]
async fn upper_layers_hide_and_replace_what_lies_below() {
    world::test(async |w| {
        let below = Layer::new()
            .dir("data", 0o755)
            .file("data/removed", 0o644, "below")
            .file("data/replaced", 0o644, "below")
            .dir("closed", 0o755)
            .file("closed/old", 0o644, "below")
            .dir("becomes-file", 0o755)
            .file("becomes-file/x", 0o644, "below");
        let above = Layer::new()
            .whiteout("data/removed")
            .file("data/replaced", 0o644, "above")
            .dir("closed", 0o755)
            .opaque("closed")
            .file("closed/new", 0o644, "above")
            .whiteout("becomes-file")
            .file("linked", 0o644, "one inode")
            .hard_link("link", "linked");
        let top = Layer::new()
            .file("becomes-file", 0o644, "now a file")
            .whiteout("data/never-was");
        let made = Builder::new(Format::Oci)
            .layer(image::busybox_layer()?.finish(), Packing::Gzip)
            .layer(below.finish(), Packing::Zstd)
            .layer(above.finish(), Packing::Gzip)
            .layer(top.finish(), Packing::Plain)
            .build()?;
        let reference = w.registry.push(&made, "layers", "latest")?;
        w.cri.pull(&reference).await?;
        let running = w
            .run(pod::pod(&w.slot, "layers"), &pod::idle("one", &reference))
            .await?;

        ensure!(w.exec(&running.container, &["ls", "/data"]).await?.trim() == "replaced");
        ensure!(w.exec(&running.container, &["cat", "/data/replaced"]).await? == "above");
        ensure!(w.exec(&running.container, &["ls", "/closed"]).await?.trim() == "new");
        ensure!(w.exec(&running.container, &["cat", "/becomes-file"]).await? == "now a file");
        let inodes = w
            .exec(&running.container, &["stat", "-c", "%i %a", "/linked", "/link"])
            .await?;
        let inodes: Vec<&str> = inodes.lines().collect();
        ensure!(
            inodes.len() == 2 && inodes[0] == inodes[1] && inodes[0].ends_with(" 644"),
            "{inodes:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_two_images_share_is_stored_once() {
    world::test(async |w| {
        let shared = Layer::new().file("big", 0o644, noise(2 << 20)).finish();
        let make = |name: &str| {
            let own = Layer::new().file(name, 0o644, name).finish();
            Builder::new(Format::Oci)
                .layer(shared.clone(), Packing::Gzip)
                .layer(own, Packing::Gzip)
                .build()
        };
        let first = w.registry.push(&make("first")?, "first", "latest")?;
        let second = w.registry.push(&make("second")?, "second", "latest")?;
        w.cri.pull(&first).await?;
        let with_one = used_bytes(w).await?;
        w.cri.pull(&second).await?;
        let with_two = used_bytes(w).await?;
        ensure!(with_one > 2 << 20, "the layer counts: {with_one}");
        ensure!(
            with_two < with_one + (256 << 10),
            "{with_one} grew to {with_two} bytes"
        );
        w.cri.remove_image(&first).await?;
        ensure!(
            used_bytes(w).await? > 2 << 20,
            "the second image still needs the layer"
        );
        w.cri.remove_image(&second).await?;
        ensure!(
            used_bytes(w).await? < 256 << 10,
            "nobody needs the layer any more"
        );
        Ok(())
    })
    .await;
}

async fn used_bytes(w: &World) -> Result<u64> {
    let info = w
        .cri
        .images
        .clone()
        .image_fs_info(ImageFsInfoRequest {})
        .await?
        .into_inner();
    let used = info
        .image_filesystems
        .first()
        .and_then(|fs| fs.used_bytes.as_ref());
    Ok(used.context("ImageFsInfo without used_bytes")?.value)
}

/// Bytes that don't compress, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(step).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_is_pulled_anew() {
    world::test(async |w| {
        let make = |word: &str| {
            let layer = Layer::new().file("word", 0o644, word).finish();
            Builder::new(Format::Oci).layer(layer, Packing::Gzip).build()
        };
        let (old, new) = (make("old")?, make("new")?);
        let reference = w.registry.push(&old, "moving", "latest")?;
        ensure!(w.cri.pull(&reference).await? == old.id(), "the old image");
        w.registry.push(&new, "moving", "latest")?;
        ensure!(w.cri.pull(&reference).await? == new.id(), "the new image");
        let found = w.cri.image(&reference).await?.context("found by its tag")?;
        ensure!(found.id == new.id(), "the tag names the new image");
        let old = w.cri.image(old.id()).await?.context("the old image stays")?;
        ensure!(old.repo_tags.is_empty(), "without the tag: {:?}", old.repo_tags);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_outlive_the_daemon() {
    world::test(async |w| {
        let reference = w.busybox().await?;
        let before = w.cri.image(&reference).await?;
        w.restart().await?;
        ensure!(
            w.cri.image(&reference).await? == before,
            "the same image after a restart"
        );
        Ok(())
    })
    .await;
}
