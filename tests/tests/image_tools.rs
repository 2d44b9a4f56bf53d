//! The command line, and the tools of others: images go from each to each and stay what they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use pintle_tests::image::{self, Builder, Format, Packing};
use pintle_tests::pod;
use pintle_tests::world::{self, World};

/// The command line, from the folder of the daemon under test.
fn pintle(w: &World, arguments: &[&str]) -> Result<String> {
    let folder = std::env::var_os("PINTLE_BIN").context("PINTLE_BIN is not set")?;
    let mut command = Command::new(PathBuf::from(folder).join("pintle"));
    command
        .arg("--socket")
        .arg(w.server.socket())
        .arg("image")
        .args(arguments);
    run(&mut command)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    run(Command::new(program).args(arguments))
}

/// podman and buildah with a store of their own, which leaves no mounts.
fn containers_tool(w: &World, program: &str, arguments: &[&str]) -> Result<String> {
    let root = w.slot.root().join("containers");
    run(Command::new(program)
        .args(["--storage-driver", "vfs", "--root"])
        .arg(root.join("root"))
        .arg("--runroot")
        .arg(root.join("run"))
        .args(arguments))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

/// Everything that can be seen of the files below a folder.
fn tree(folder: &Path) -> Result<BTreeMap<String, String>> {
    let shown = "cd \"$1\" && find . -mindepth 1 -printf '%P\\t%y %m %U %G %n %T@ %l\\n' && \
                 find . -type f -exec sha256sum {} + | awk '{print $2 \"#\\t\" $1}'";
    let listed = tool("sh", &["-ec", shown, "sh", text(folder)?])?;
    let line = |line: &str| {
        line.split_once('\t')
            .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
    };
    Ok(listed.lines().filter_map(line).collect())
}

fn equal_trees(one: &Path, other: &Path) -> Result<()> {
    let (one, other) = (tree(one)?, tree(other)?);
    ensure!(one.len() > 10, "there is something to compare");
    for (name, shown) in &one {
        ensure!(
            other.get(name) == Some(shown),
            "{name}: {shown:?} and {:?}",
            other.get(name)
        );
    }
    ensure!(
        one.len() == other.len(),
        "{} and {} files",
        one.len(),
        other.len()
    );
    Ok(())
}

/// A layer as the store has unpacked it.
fn layer_folder(w: &World, diff_id: &str) -> PathBuf {
    let folder = w.slot.root().join("daemon/images/layers");
    folder.join(diff_id.trim_start_matches("sha256:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_tag_push_list_and_clear_away() {
    world::test(async |w| {
        let made = image::busybox()?;
        let reference = w.registry.push(&made, "team/app", "1")?;
        let id = pintle(w, &["pull", &reference])?;
        ensure!(id.trim() == made.id(), "pulled {id}");
        ensure!(pintle(w, &["ls"])?.contains(&reference), "listed");
        let other = format!("{}/copies/app:2", w.registry.host());
        pintle(w, &["tag", made.id(), &other])?;
        let digest = pintle(w, &["push", &other])?;
        ensure!(digest.trim() == made.manifests[0].digest, "pushed {digest}");
        ensure!(
            pintle(w, &["verify"])?
                .lines()
                .all(|line| line.ends_with("whole")),
            "whole"
        );
        let inspected = pintle(w, &["inspect", &reference])?;
        ensure!(
            inspected.contains(made.id()) && inspected.contains("diff_ids"),
            "{inspected}"
        );
        pintle(w, &["untag", &reference])?;
        ensure!(w.cri.image(&reference).await?.is_none(), "the name is gone");
        ensure!(w.cri.image(&other).await?.is_some(), "the image is not");
        ensure!(pintle(w, &["prune"])?.is_empty(), "it has a name");
        ensure!(
            pintle(w, &["rm", "nothing:here"]).is_err(),
            "a mistyped name is told"
        );
        // A container keeps its image from being pruned, whether it runs or not.
        let running = w.run(pod::pod(&w.slot, "prune"), &pod::idle("c", &other)).await?;
        ensure!(pintle(w, &["prune", "--all"])?.is_empty(), "it is in use");
        w.remove(&running.pod).await?;
        ensure!(
            pintle(w, &["prune", "--all", "--dry-run"])?.trim() == made.id(),
            "would go"
        );
        ensure!(pintle(w, &["prune", "--all"])?.trim() == made.id(), "goes");
        ensure!(w.cri.image_list().await?.is_empty(), "is gone");
        ensure!(
            pintle(w, &["pull", "127.0.0.1:1/no:where"]).is_err(),
            "a failed pull is told"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_files_folders_and_pipes() {
    world::test(async |w| {
        let reference = w.busybox().await?;
        let id = w.cri.image(&reference).await?.context("busybox")?.id;
        let folder = w.slot.root().join("archives");
        std::fs::create_dir_all(&folder)?;
        let (file, layout) = (folder.join("a.tar"), folder.join("layout/"));
        pintle(w, &["export", &reference, "-o", text(&file)?])?;
        pintle(w, &["export", &reference, "-o", &format!("{}/", text(&layout)?)])?;
        for from in [&file, &layout] {
            pintle(w, &["rm", &id])?;
            ensure!(pintle(w, &["import", text(from)?])?.trim() == id, "import {}", from.display());
            ensure!(w.cri.image(&reference).await?.is_some(), "the name came along");
        }
        let binary = PathBuf::from(std::env::var_os("PINTLE_BIN").context("PINTLE_BIN")?).join("pintle");
        let script = "\"$1\" --socket \"$2\" image export \"$3\" -o - | \"$1\" --socket \"$2\" image import - --name piped:1";
        let socket = text(w.server.socket())?.to_owned();
        tool("sh", &["-ec", script, "sh", text(&binary)?, &socket, &reference])?;
        ensure!(w.cri.image("docker.io/library/piped:1").await?.is_some(), "through a pipe");
        std::fs::write(folder.join("noise"), [0x5a; 5000])?;
        ensure!(pintle(w, &["import", text(&folder.join("noise"))?]).is_err(), "noise is no archive");
        let running = w.run(pod::pod(&w.slot, "imported"), &pod::idle("c", "piped:1")).await?;
        w.exec(&running.container, &["true"]).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_and_umoci_see_the_same_files() {
    world::test(async |w| {
        // A part of a real Debian root file system, with its owners, modes, links and times.
        let folder = w.slot.root().join("work");
        std::fs::create_dir_all(&folder)?;
        let archive = folder.join("debian.tar");
        let script = "tar --sort=name -C / -cf \"$1\" --no-recursion usr var var/lib var/lib/dpkg \
                      --recursion etc usr/sbin var/lib/dpkg/info";
        tool("sh", &["-c", script, "sh", text(&archive)?]).context("tar of the machine's own files")?;
        let made = Builder::new(Format::Oci)
            .layer(std::fs::read(&archive)?, Packing::Zstd)
            .build()?;
        let reference = w.registry.push(&made, "debian", "1")?;
        w.cri.pull(&reference).await?;

        let ours = folder.join("ours.tar");
        pintle(w, &["export", &reference, "-o", text(&ours)?])?;
        for (number, kind) in ["oci-archive", "docker-archive"].into_iter().enumerate() {
            let layout = folder.join(format!("layout{number}"));
            let (from, to) = (
                format!("{kind}:{}", text(&ours)?),
                format!("oci:{}:x", text(&layout)?),
            );
            tool("skopeo", &["copy", &from, &to])?;
            let bundle = folder.join(format!("bundle{number}"));
            tool(
                "umoci",
                &[
                    "unpack",
                    "--image",
                    &format!("{}:x", text(&layout)?),
                    text(&bundle)?,
                ],
            )?;
            equal_trees(&layer_folder(w, &made.diff_ids[0]), &bundle.join("rootfs"))?;
        }

        let theirs = folder.join("theirs.tar");
        let from = format!("docker://{reference}");
        tool(
            "skopeo",
            &[
                "copy",
                "--src-tls-verify=false",
                &from,
                &format!("oci-archive:{}:t", text(&theirs)?),
            ],
        )?;
        pintle(w, &["rm", made.id()])?;
        let id = pintle(w, &["import", text(&theirs)?, "--name", "theirs:1"])?;
        ensure!(id.trim() == made.id(), "imported {id}");
        ensure!(pintle(w, &["verify"])?.trim().ends_with("whole"), "whole");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_and_buildah_take_and_give() {
    world::test(async |w| {
        let reference = w.busybox().await?;
        let id = w.cri.image(&reference).await?.context("busybox")?.id;
        let folder = w.slot.root().join("work");
        std::fs::create_dir_all(&folder)?;
        let ours = folder.join("ours.tar");
        pintle(w, &["export", &reference, "-o", text(&ours)?])?;
        containers_tool(w, "podman", &["load", "-q", "-i", text(&ours)?])?;
        let shown = containers_tool(
            w,
            "podman",
            &["image", "inspect", "--format", "{{.Id}}", &reference],
        )?;
        ensure!(
            shown.trim() == id.trim_start_matches("sha256:"),
            "podman has {shown}"
        );
        pintle(w, &["rm", &id])?;
        for format in ["docker-archive", "oci-archive"] {
            let theirs = folder.join(format);
            let name = format!("localhost/{format}:1");
            containers_tool(
                w,
                "podman",
                &["save", "-q", "--format", format, "-o", text(&theirs)?, &reference],
            )?;
            let imported = pintle(w, &["import", text(&theirs)?, "--name", &name])?;
            w.run(pod::pod(&w.slot, format), &pod::idle("c", imported.trim()))
                .await?;
        }

        let made = containers_tool(w, "buildah", &["from", "scratch"])?;
        std::fs::write(folder.join("file"), "made by buildah")?;
        containers_tool(
            w,
            "buildah",
            &[
                "copy",
                "-q",
                made.trim(),
                text(&folder.join("file"))?,
                "/etc/file",
            ],
        )?;
        containers_tool(w, "buildah", &["commit", "-q", made.trim(), "built"])?;
        let target = format!("docker://{}/built:1", w.registry.host());
        containers_tool(
            w,
            "buildah",
            &["push", "-q", "--tls-verify=false", "built", &target],
        )?;
        let built = pintle(w, &["pull", &format!("{}/built:1", w.registry.host())])?;
        let image = w.cri.image(built.trim()).await?.context("built")?;
        ensure!(image.repo_tags.len() == 1, "{:?}", image.repo_tags);
        let inspected: serde_json::Value = serde_json::from_str(&pintle(w, &["inspect", built.trim()])?)?;
        let diff_id = inspected["config"]["rootfs"]["diff_ids"][0]
            .as_str()
            .context("a layer")?;
        let file = std::fs::read_to_string(layer_folder(w, diff_id).join("etc/file"))?;
        ensure!(file == "made by buildah", "{file}");
        Ok(())
    })
    .await;
}
