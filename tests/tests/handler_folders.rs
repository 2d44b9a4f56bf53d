//! Runtime handlers with folders of their own: for what containers write, and for the network's configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{ContainerStatsRequest, ImageFsInfoRequest};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::{self, World};
use pintle_tests::{check, pod, wait};

/// A CNI program that writes down how it was called, and adds an address that no network of the slot has.
const PROGRAM: &str = r#"#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID" >> "$0.log"
cat > /dev/null
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.7/24"}]}'
"#;
const CONFLIST: &str = r#"{"cniVersion": "1.0.0", "name": "own", "plugins": [{"type": "written-down"}]}"#;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = format!("/var/tmp/pintle-test-folders-{}-{serial}", std::process::id());
        let folder = Folder(PathBuf::from(path));
        fs::create_dir_all(folder.path("net.d"))?;
        fs::write(folder.path("net.d/10-own.conflist"), CONFLIST)?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn config(&self) -> String {
        let folder = self.0.display();
        format!(
            "[runtimes.disk]\nsnapshots_dir = \"{folder}/layers\"\n\
             [runtimes.runc-disk]\npath = \"/usr/sbin/runc\"\nsnapshots_dir = \"{folder}/layers\"\n\
             [runtimes.net]\ncni_conf_dir = \"{folder}/net.d\"\n\
             [runtimes.empty]\ncni_conf_dir = \"{folder}/empty.d\"\n"
        )
    }

    /// What lies among the writable layers, but for the lock.
    fn layers(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path("layers"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name != "lock");
        Ok(names)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn test(cni: bool, body: impl AsyncFnOnce(&mut World, &Folder) -> Result<()>) {
    let mut setup = Setup::from_env().expect("the daemon to test");
    if setup.kind != Kind::Pintle {
        return; // configured otherwise
    }
    let folder = Folder::new().expect("a folder");
    setup.cni = cni;
    setup.extra_config = folder.config();
    world::test_with(setup, async |w| body(w, &folder).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_containers_write_lies_where_the_handler_says() {
    test(false, async |w, folder| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let mut all = Vec::new();
        for handler in ["", "disk", "runc-disk"] {
            let name = format!("layer-{handler}").trim_end_matches('-').to_owned();
            let config = pod::shell(
                "main",
                &image,
                "echo written > /file; rm /bin/ls; exec sleep 1000",
            );
            let running = w.run_on(handler, pod::pod(&w.slot, &name), &config).await?;
            all.push((handler, running));
        }
        w.restart().await?;
        for (handler, running) in &all {
            let id = &running.container;
            let file = folder.path("layers").join(id).join("upper/file");
            let is_own = !handler.is_empty();
            if is_own {
                let has_it = || fs::read_to_string(&file).is_ok_and(|text| text == "written\n");
                wait::until(&format!("{handler}: the file"), wait::PATIENCE, has_it)?;
            }
            ensure!(file.exists() == is_own, "{handler:?}: {}", file.display());
            let said = w.exec(id, &["cat", "/file"]).await.context(*handler)?;
            check::equal(handler, &said, &"written\n".to_owned())?;
            check::equal(
                handler,
                &place(w, id).await?.starts_with(folder.path("layers")),
                &is_own,
            )?;
        }
        let request = ImageFsInfoRequest::default();
        let about = w.cri.images.clone().image_fs_info(request).await?.into_inner();
        let places: Vec<String> = about
            .container_filesystems
            .iter()
            .filter_map(|entry| Some(entry.fs_id.as_ref()?.mountpoint.clone()))
            .collect();
        ensure!(
            places.len() == 2 && Path::new(&places[1]) == folder.path("layers"),
            "{places:?}"
        );
        check::equal("layers", &folder.layers()?.len(), &2)?;
        // What a crash has left goes at the next start, what isn't ours stays.
        fs::create_dir_all(folder.path("layers").join("f".repeat(64)))?;
        fs::create_dir_all(folder.path("layers/photos"))?;
        w.restart().await?;
        check::equal("layers", &folder.layers()?.len(), &3)?;
        for (handler, running) in &all {
            w.remove(&running.pod).await.context(*handler)?;
        }
        check::equal("what is left", &folder.layers()?, &vec!["photos".to_owned()])?;
        w.assert_nothing_left(&before).await
    })
    .await;
}

/// The mount point that a container's statistics name.
async fn place(w: &World, id: &str) -> Result<PathBuf> {
    let counted = wait::until_some("a count of the layer", wait::PATIENCE, || async {
        let request = ContainerStatsRequest {
            container_id: id.to_owned(),
        };
        let answer = w.cri.runtime.clone().container_stats(request).await.ok()?;
        answer.into_inner().stats?.writable_layer?.fs_id
    });
    Ok(PathBuf::from(counted.await?.mountpoint))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_one_daemons() {
    test(false, async |w, folder| {
        w.server.kill();
        let lock = fs::File::open(folder.path("layers/lock"))?;
        lock.lock()?;
        let status = w.server.run_to_end(Duration::from_secs(30))?;
        ensure!(!status.success());
        let log = w.server.log_tail(5);
        ensure!(log.contains("another daemon uses it"), "{log}");
        drop(lock);
        w.start().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_what_the_handlers_folder_says() {
    test(true, async |w, folder| {
        let image = w.busybox().await?;
        let program = w.slot.root().join("cni-bin/written-down");
        fs::write(&program, PROGRAM)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let usual = w.cri.run_pod(&pod::pod(&w.slot, "usual")).await?;
        ensure!(w.cri.pod_ip(&usual).await?.starts_with(&w.slot.subnet_prefix()));
        let own = w.cri.run_pod_on("net", &pod::pod(&w.slot, "own")).await?;
        check::equal("address", &w.cri.pod_ip(&own).await?, &"192.0.2.7".to_owned())?;

        // Nothing else is made up where the folder has no configuration.
        let refused = w.cri.run_pod_on("empty", &pod::pod(&w.slot, "empty")).await;
        let refused = refused.err().context("it has no network")?;
        ensure!(refused.message().contains("empty.d"), "{}", refused.message());

        // Another daemon, and another configuration: the pod is taken down as it was put up.
        fs::remove_file(folder.path("net.d/10-own.conflist"))?;
        w.restart().await?;
        check::equal("address", &w.cri.pod_ip(&own).await?, &"192.0.2.7".to_owned())?;
        w.remove(&own).await?;
        w.remove(&usual).await?;
        let calls = fs::read_to_string(program.with_extension("log"))?;
        let calls: Vec<&str> = calls.lines().collect();
        let (add, del) = (format!("ADD {own}"), format!("DEL {own}"));
        ensure!(
            calls.first() == Some(&add.as_str()) && calls.last() == Some(&del.as_str()),
            "{calls:?}"
        );
        ensure!(
            calls.iter().all(|call| call.ends_with(&own)),
            "no other pod's: {calls:?}"
        );
        w.assert_nothing_left(&before).await
    })
    .await;
}
