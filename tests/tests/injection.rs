//! What a node adds to containers that name it: vendors' devices (CDI), an administrator's hooks, classes of block I/O.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{CdiDevice, ContainerConfig};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::{self, World};
use pintle_tests::{check, host, pod};
use serde_json::{Value, json};

/// A folder of the test's own, with those that the configuration names in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!(
            "/run/pintle-test-injection-{}-{serial}",
            std::process::id()
        ));
        for name in ["cdi", "hooks", "seen"] {
            fs::create_dir_all(folder.join(name))?;
        }
        // Whole disks that most machines have one of; the kernel takes no partitions.
        let classes = "Classes:\n  low:\n  - Devices: [\"/dev/[sv]da\", /dev/nvme0n1, /dev/loop0]\n    ThrottleReadBps: 50M\n";
        fs::write(folder.join("classes.yaml"), classes)?;
        Ok(Folder(folder))
    }

    fn config(&self) -> String {
        let folder = self.0.display();
        format!(
            "[runtime]\ncdi_dirs = [\"{folder}/cdi\"]\nhooks_dirs = [\"{folder}/hooks\"]\n\
             blockio_config_file = \"{folder}/classes.yaml\"\n[runtimes.runc]\npath = \"/usr/sbin/runc\"\n"
        )
    }

    fn write(&self, file: &str, content: &Value) -> Result<()> {
        Ok(fs::write(self.0.join(file), content.to_string())?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn test(body: impl AsyncFnOnce(&mut World, &Folder) -> Result<()>) {
    let mut setup = Setup::from_env().expect("the daemon to test");
    if setup.kind != Kind::Pintle {
        return; // configured otherwise
    }
    let folder = Folder::new().expect("a folder");
    setup.extra_config = folder.config();
    world::test_with(setup, async |w| body(w, &folder).await).await;
}

fn description(env: &str) -> Value {
    json!({
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/device",
        "containerEdits": {"env": ["COMMON=1"]},
        "devices": [{"name": "zero", "containerEdits": {
            "env": [env],
            "deviceNodes": [{"path": "/dev/vendor", "hostPath": "/dev/zero"}],
            "mounts": [{"hostPath": "/etc/debian_version", "containerPath": "/vendor/version", "options": ["ro", "bind"]}],
        }}],
    })
}

fn with_device(mut config: ContainerConfig, name: &str) -> ContainerConfig {
    config.cdi_devices.push(CdiDevice {
        name: name.to_owned(),
    });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn vendors_devices_come_by_field_and_by_annotation() {
    test(async |w, folder| {
        let image = w.busybox().await?;
        folder.write("cdi/vendor.json", &description("WHICH=first"))?;
        let mut annotated = pod::idle("annotated", &image);
        annotated.annotations.insert(
            "cdi.k8s.io/plugin".to_owned(),
            "vendor.com/device=zero".to_owned(),
        );
        let named = with_device(pod::idle("named", &image), "vendor.com/device=zero");
        let look =
            "echo $COMMON:$WHICH; head -c 3 /dev/vendor | wc -c; test -s /vendor/version && echo mounted";
        for (handler, config) in [("", &named), ("", &annotated), ("runc", &named)] {
            let running = w.run_on(handler, pod::pod(&w.slot, "device"), config).await?;
            let said = w.exec(&running.container, &["sh", "-c", look]).await?;
            check::equal("what a device brings", &said, &"1:first\n3\nmounted\n")?;
            w.remove(&running.pod).await?;
        }
        // Others don't have it, and a description that changes counts from then on.
        let pod_config = pod::pod(&w.slot, "later");
        let without = w.run(pod_config.clone(), &pod::idle("without", &image)).await?;
        w.exec(
            &without.container,
            &["sh", "-c", "test ! -e /dev/vendor && test -z \"$COMMON\""],
        )
        .await?;
        folder.write("cdi/vendor.json", &description("WHICH=second"))?;
        let later = w.add(&without.pod, &pod_config, &named).await?;
        let said = w.exec(&later, &["sh", "-c", "echo $WHICH"]).await?;
        check::equal("after a change", &said, &"second\n")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_cannot_be_had_is_named_with_the_reason() {
    test(async |w, folder| {
        let image = w.busybox().await?;
        let pod_config = pod::pod(&w.slot, "none");
        let pod = w.cri.run_pod(&pod_config).await?;
        let before = w.count()?;
        let config = with_device(pod::idle("main", &image), "vendor.com/device=zero");
        let refused = w.cri.create(&pod, &pod_config, &config).await;
        check::refused("a device nobody describes", refused, "vendor.com/device=zero")?;
        let mut future = description("A=1");
        future["cdiVersion"] = "9.0.0".into();
        folder.write("cdi/future.json", &future)?;
        let refused = w.cri.create(&pod, &pod_config, &config).await;
        check::refused(
            "a version of the future",
            refused,
            "future.json: cdiVersion \"9.0.0\"",
        )?;
        w.assert_nothing_left(&before).await?;
        // The file harms no other.
        folder.write("cdi/good.json", &description("A=1"))?;
        w.add(&pod, &pod_config, &config).await.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_for_the_containers_that_they_are_for() {
    test(async |w, folder| {
        let image = w.busybox().await?;
        let seen = folder.0.join("seen");
        let hook = |file: &str| {
            let script = format!("cat > {}/{file}", seen.display());
            json!({"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 10})
        };
        let definition = |file: &str, stage: &str, when: Value| {
            json!({"version": "1.0.0", "hook": hook(file), "when": when, "stages": [stage]})
        };
        let wanted = json!({"annotations": {"^example\\.com/hooks$": "^yes$"}});
        folder.write("hooks/made.json", &definition("made", "createRuntime", wanted.clone()))?;
        folder.write("hooks/gone.json", &definition("gone", "poststop", wanted))?;
        let other = json!({"commands": ["^/no/such$"]});
        folder.write("hooks/other.json", &definition("other", "createRuntime", other))?;
        let plain = w.run(pod::pod(&w.slot, "plain"), &pod::idle("main", &image)).await?;
        ensure!(fs::read_dir(&seen)?.count() == 0, "a hook ran for a container it isn't for");
        let mut config = pod::idle("main", &image);
        config.annotations.insert("example.com/hooks".to_owned(), "yes".to_owned());
        for handler in ["", "runc"] {
            let running = w.run_on(handler, pod::pod(&w.slot, "hooked"), &config).await?;
            let state: Value = serde_json::from_slice(&fs::read(seen.join("made")).context("createRuntime")?)?;
            check::equal("the container in its state", &state["id"], &running.container.as_str())?;
            ensure!(!seen.join("gone").exists());
            w.remove(&running.pod).await?;
            let state: Value = serde_json::from_slice(&fs::read(seen.join("gone")).context("poststop")?)?;
            check::equal("the container in its state", &state["id"], &running.container.as_str())?;
            for file in ["made", "gone"] {
                fs::remove_file(seen.join(file))?;
            }
        }
        ensure!(!seen.join("other").exists());
        // What can't be read might have been for this one.
        fs::write(folder.0.join("hooks/broken.json"), "{")?;
        let refused = w.cri.create(&plain.pod, &plain.pod_config, &pod::idle("next", &image)).await;
        check::refused("a hook that can't be read", refused, "broken.json").map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_are_applied_or_refused() {
    test(async |w, _| {
        let image = w.busybox().await?;
        let mut pod_config = pod::pod(&w.slot, "classes");
        let annotation = "blockio.resources.beta.kubernetes.io/container.main".to_owned();
        pod_config.annotations.insert(annotation, "low".to_owned());
        let pod = w.cri.run_pod(&pod_config).await?;
        let container = w
            .cri
            .create(&pod, &pod_config, &pod::idle("main", &image))
            .await?;
        let limits: Vec<String> = host::cgroups_below(&w.slot.cgroup())?
            .iter()
            .filter(|group| group.to_string_lossy().contains(&container))
            .flat_map(|group| ["blkio.throttle.read_bps_device", "io.max"].map(|file| group.join(file)))
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect();
        ensure!(limits.iter().any(|text| text.contains("50000000")), "{limits:?}");
        for (class, reason) in [
            ("io.kubernetes.cri.blockio-class", "no such class"),
            ("io.kubernetes.cri.rdt-class", "gold"),
        ] {
            let mut config = pod::idle("other", &image);
            config.annotations.insert(class.to_owned(), "gold".to_owned());
            let refused = w.cri.create(&pod, &pod_config, &config).await;
            check::refused(class, refused, reason)?;
        }
        Ok(())
    })
    .await;
}
