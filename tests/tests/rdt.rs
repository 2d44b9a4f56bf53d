//! Classes of cache and memory bandwidth, on a folder that plays resctrl: few machines have the real one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::{self, World};
use pintle_tests::{check, pod};
use serde_json::Value;

const CLASSES: &str = r#"
partitions:
  critical:
    l3Allocation: "60%"
    mbAllocation: ["100%"]
    classes:
      gold:
  rest:
    l3Allocation: "40%"
    mbAllocation: ["50%"]
    classes:
      silver:
        l3Allocation: "50%"
        kubernetes: {denyPodAnnotation: true}
"#;

/// Keeps the spec that it is given, and leaves out what runc would look for in a real resctrl.
const RUNTIME: &str = r#"#!/bin/sh
for word in "$@"; do
    [ "$before" != --bundle ] || bundle=$word
    before=$word
done
if [ -n "$bundle" ]; then
    cp "$bundle/config.json" "${0%/*}/spec.json"
    sed -i 's/,"intelRdt":{[^}]*}//; s/"intelRdt":{[^}]*},//' "$bundle/config.json"
fi
exec runc "$@"
"#;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = format!("/run/pintle-test-rdt-{}-{serial}", std::process::id());
        let folder = Folder(PathBuf::from(path));
        for (name, text) in [
            ("classes.yaml", CLASSES),
            ("runtime", RUNTIME),
            ("resctrl/info/L3/cbm_mask", "fffff\n"),
            ("resctrl/info/L3/min_cbm_bits", "1\n"),
            ("resctrl/info/MB/min_bandwidth", "10\n"),
            ("resctrl/schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n"),
        ] {
            let file = folder.0.join(name);
            fs::create_dir_all(file.parent().context("a folder")?)?;
            fs::write(&file, text)?;
        }
        fs::set_permissions(folder.0.join("runtime"), Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    fn config(&self) -> String {
        let folder = self.0.display();
        format!(
            "[runtime]\nrdt_config_file = \"{folder}/classes.yaml\"\nresctrl_root = \"{folder}/resctrl\"\n\
             [runtimes.written-down]\npath = \"{folder}/runtime\"\n"
        )
    }

    fn schemata(&self, class: &str) -> String {
        fs::read_to_string(self.0.join("resctrl").join(class).join("schemata")).unwrap_or_default()
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

const OF_POD: &str = "rdt.resources.beta.kubernetes.io/pod";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_chooses_a_class_that_the_file_has_made() {
    test(async |w, folder| {
        check::equal(
            "gold",
            &folder.schemata("gold"),
            &"L3:0=fff;1=fff\nMB:0=100;1=100\n".to_owned(),
        )?;
        check::equal(
            "silver",
            &folder.schemata("silver"),
            &"L3:0=f000;1=f000\nMB:0=50;1=50\n".to_owned(),
        )?;
        let image = w.busybox().await?;
        let mut config = pod::pod(&w.slot, "golden");
        config.annotations.insert(OF_POD.to_owned(), "gold".to_owned());
        let running = w
            .run_on("written-down", config, &pod::idle("main", &image))
            .await?;
        let spec: Value = serde_json::from_slice(&fs::read(folder.0.join("spec.json"))?)?;
        check::equal(
            "the class",
            &spec.pointer("/linux/intelRdt/closID").and_then(Value::as_str),
            &Some("gold"),
        )?;
        w.exec(&running.container, &["true"]).await?;
        w.remove(&running.pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_had_is_refused() {
    test(async |w, folder| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let refused = async |w: &World, class: &str, says: &str| -> Result<()> {
            let mut config = pod::pod(&w.slot, "refused");
            config.annotations.insert(OF_POD.to_owned(), class.to_owned());
            let pod = w.cri.run_pod(&config).await?;
            let created = w.cri.create(&pod, &config, &pod::idle("main", &image)).await;
            let error = created.err().context("it was made")?;
            ensure!(error.message().contains(says), "{class}: {}", error.message());
            w.remove(&pod).await
        };
        refused(w, "lead", "no such class").await?;
        refused(w, "../gold", "no such class").await?;
        refused(w, "silver", "not to be had by annotations of pods").await?;
        // The node goes on without the classes that it can't have, and says why to whoever wants one.
        let file = folder.0.join("classes.yaml");
        fs::write(&file, CLASSES.replace("40%", "50%"))?;
        w.restart().await?;
        refused(w, "gold", "110%").await?;
        fs::write(&file, CLASSES)?;
        fs::rename(folder.0.join("resctrl"), folder.0.join("unmounted"))?;
        w.restart().await?;
        refused(w, "gold", "no resctrl file system is mounted").await?;
        w.run(pod::pod(&w.slot, "usual"), &pod::idle("main", &image))
            .await?;
        fs::write(&file, "partitions: 5")?;
        w.server.kill();
        let status = w.server.run_to_end(std::time::Duration::from_secs(30))?;
        ensure!(!status.success() && w.server.log_tail(5).contains("classes.yaml"));
        fs::write(&file, CLASSES)?;
        w.start().await?;
        for pod in w.cri.pods().await? {
            w.remove(&pod.id).await?;
        }
        w.assert_nothing_left(&before).await
    })
    .await;
}
