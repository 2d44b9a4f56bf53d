//! Runtime handlers: other OCI runtimes beside the built-in one, and handlers with settings of their own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{
    ContainerState, ContainerStatsRequest, IdMapping, NamespaceMode, RuntimeHandler, StatusRequest,
    UpdateContainerResourcesRequest, UserNamespace,
};
use pintle_tests::server::{Kind, Setup};
use pintle_tests::world::{self, World};
use pintle_tests::{check, host, pod, wait};
use tokio::time::timeout;

/// Handlers whose containers are to be alike.
const ALIKE: [&str; 3] = ["", "runc", "crun"];

/// crun wants nothing to do with v1 hierarchies that have a cgroup2 beside them: it isn't shown that one.
const CRUN: &str = r#"#!/bin/sh
if mountpoint -q /sys/fs/cgroup/unified; then
    exec unshare --mount --propagation unchanged sh -c 'mount --make-private /sys/fs/cgroup; mount --make-private /sys/fs/cgroup/unified; umount /sys/fs/cgroup/unified; exec crun "$@"' crun "$@"
fi
exec crun "$@"
"#;

/// Answers questions, and never comes back from a creation.
const HANGS: &str = r#"#!/bin/sh
for word in "$@"; do
    case $word in
        create) sleep 98765;;
        features) echo '{}'; exit 0;;
    esac
done
"#;

const BASE_SPEC: &str = r#"{"process": {"env": ["BASE=yes", "PATH=/nowhere"]},
    "mounts": [{"destination": "/opt/base", "type": "tmpfs", "source": "tmpfs"}]}"#;

/// A folder of the test's own with programs and files.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let folder = Folder(PathBuf::from(format!(
            "/run/pintle-test-runtimes-{}-{serial}",
            std::process::id()
        )));
        fs::create_dir_all(&folder.0)?;
        for (name, text) in [("crun", CRUN), ("hangs", HANGS), ("base.json", BASE_SPEC)] {
            fs::write(folder.0.join(name), text)?;
            fs::set_permissions(folder.0.join(name), Permissions::from_mode(0o755))?;
        }
        Ok(folder)
    }

    fn config(&self) -> String {
        let folder = self.0.display();
        format!(
            "[runtimes.runc]\npath = \"/usr/sbin/runc\"\n\
             [runtimes.crun]\npath = \"{folder}/crun\"\n\
             [runtimes.hangs]\npath = \"{folder}/hangs\"\n\
             [runtimes.missing]\npath = \"/nowhere/runc\"\n\
             [runtimes.special]\nbase_spec = \"{folder}/base.json\"\ndevices = [\"/dev/full:/dev/extra:r\"]\n\
             device_rules = [\"c 10:229 rwm\"]\npids_limit = 77\ncontainer_annotations = [\"allowed/*\"]\n"
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn test(body: impl AsyncFnOnce(&mut World) -> Result<()>) {
    let mut setup = Setup::from_env().expect("the daemon to test");
    if setup.kind != Kind::Pintle {
        return; // configured otherwise
    }
    let folder = Folder::new().expect("a folder");
    setup.extra_config = folder.config();
    world::test_with(setup, body).await;
}

async fn lines(running: &world::Running, count: usize) -> Result<Vec<String>> {
    wait::until_some("lines in the log", wait::PATIENCE, || async {
        running.lines().ok().filter(|lines| lines.len() >= count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_runtimes_do_as_the_built_in_one() {
    test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let script = "echo out; echo err >&2; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
        let mut all = Vec::new();
        for handler in ALIKE {
            let config = pod::shell("main", &image, script);
            let name = format!("on-{handler}").trim_end_matches('-').to_owned();
            let running = w.run_on(handler, pod::pod(&w.slot, &name), &config).await?;
            all.push((handler, running));
        }
        for (handler, running) in &all {
            used_as_usual(w, running)
                .await
                .with_context(|| format!("handler {handler:?}"))?;
        }
        w.restart().await?;
        for (handler, running) in &all {
            let id = &running.container;
            let of = || format!("handler {handler:?}");
            ensure!(
                w.cri.status(id).await?.state() == ContainerState::ContainerRunning,
                of()
            );
            let said = w.exec(id, &["echo", "again"]).await.with_context(of)?;
            check::equal("exec after a restart", &said, &"again\n")?;
            w.cri.stop(id, 30).await?;
            let status = w.cri.status(id).await?;
            check::equal(&of(), &(status.exit_code, status.reason.as_str()), &(3, "Error"))?;
            check::equal(
                &of(),
                &running.lines()?,
                &vec!["out".to_owned(), "bye".to_owned()],
            )?;
            w.remove(&running.pod).await.with_context(of)?;
        }
        // Mounts of the host are counted, too.
        w.assert_nothing_left(&before).await
    })
    .await;
}

async fn used_as_usual(w: &World, running: &world::Running) -> Result<()> {
    let id = &running.container;
    lines(running, 1).await?;
    let stderr = pintle_tests::logs::lines(&running.records()?, "stderr");
    check::equal("stderr", &stderr, &vec!["err".to_owned()])?;
    let said = w
        .exec(id, &["sh", "-c", "echo $HOSTNAME; cat /proc/1/comm"])
        .await?;
    ensure!(said.contains("on") && said.ends_with("sh\n"), "{said:?}");
    let failed = w.cri.exec(id, &["sh", "-c", "echo no >&2; exit 7"], 20).await?;
    check::equal("exit code of exec", &failed.exit_code, &7)?;
    check::equal("stderr of exec", &failed.stderr, &b"no\n".to_vec())?;
    let missing = w.cri.exec(id, &["/no/such/program"], 20).await;
    let missing = missing.err().context("a program that is missing was run")?;
    ensure!(
        missing.message().contains("/no/such/program"),
        "{}",
        missing.message()
    );
    let slow = w.cri.exec(id, &["sleep", "1000"], 1).await;
    check::equal(
        "exec's limit",
        &slow.err().map(|e| e.code()),
        &Some(tonic::Code::DeadlineExceeded),
    )?;
    // Interfaces of the pod, seccomp, and limits.
    let inside = w
        .exec(
            id,
            &["sh", "-c", "ls /sys/class/net; grep Seccomp: /proc/1/status"],
        )
        .await?;
    ensure!(
        inside.contains("eth0") && inside.contains("Seccomp:\t2"),
        "{inside:?}"
    );
    let request = ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = w
        .cri
        .runtime
        .clone()
        .container_stats(request)
        .await?
        .into_inner()
        .stats;
    let memory = stats.context("stats")?.memory.context("memory")?;
    ensure!(memory.usage_bytes.is_some_and(|bytes| bytes.value > 0));
    let mut resources = pod::container("x", "x", &[])
        .linux
        .and_then(|l| l.resources)
        .context("resources")?;
    resources.memory_limit_in_bytes = 200 << 20;
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(resources),
        ..Default::default()
    };
    w.cri.runtime.clone().update_container_resources(request).await?;
    let limits: Vec<String> = host::cgroups_below(&w.slot.cgroup())?
        .iter()
        .filter(|folder| folder.to_string_lossy().contains(id))
        .filter_map(|folder| {
            let v2 = fs::read_to_string(folder.join("memory.max"));
            v2.or_else(|_| fs::read_to_string(folder.join("memory.limit_in_bytes")))
                .ok()
        })
        .collect();
    check::equal("memory limit", &limits, &vec![format!("{}\n", 200 << 20)])
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_alike() {
    test(async |w| {
        let image = w.busybox().await?;
        for handler in ALIKE {
            let of = |what: &str| format!("handler {handler:?}: {what}");
            let pod_config = pod::pod(&w.slot, "ends");
            let pod = w.cri.run_pod_on(handler, &pod_config).await?;
            let mut greedy = pod::shell("greedy", &image, "x=$(head -c 500000000 /dev/zero | tr '\\0' x)");
            pod::resources(&mut greedy).memory_limit_in_bytes = 32 << 20;
            let mut tty = pod::shell("tty", &image, "tty; exit 5");
            tty.tty = true;
            for (config, expected) in [
                (pod::shell("plain", &image, "exit 0"), (0, "Completed")),
                (pod::shell("killed", &image, "kill -9 $$"), (137, "Error")),
                (greedy, (137, "OOMKilled")),
                (tty, (5, "Error")),
            ] {
                let name = config
                    .metadata
                    .as_ref()
                    .map(|m| m.name.clone())
                    .unwrap_or_default();
                let container = w
                    .add(&pod, &pod_config, &config)
                    .await
                    .with_context(|| of(&name))?;
                let status = w.wait_exited(&container).await.with_context(|| of(&name))?;
                // A kill from inside reaches no init of a PID namespace.
                let expected = if name == "killed" {
                    (0, "Completed")
                } else {
                    expected
                };
                check::equal(&of(&name), &(status.exit_code, status.reason.as_str()), &expected)?;
            }
            let log = PathBuf::from(&pod_config.log_directory).join("tty/0.log");
            let said = pintle_tests::logs::lines(&pintle_tests::logs::read(&log)?, "stdout");
            ensure!(
                said.iter().any(|line| line.contains("/dev/")),
                "{}: {said:?}",
                of("terminal")
            );
            // What never was started goes as well.
            let unstarted = w
                .cri
                .create(&pod, &pod_config, &pod::idle("unstarted", &image))
                .await?;
            w.cri.remove(&unstarted).await.with_context(|| of("unstarted"))?;
            w.remove(&pod).await.with_context(|| of("removal"))?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_leaves_nothing() {
    test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let pod_config = pod::pod(&w.slot, "broken");
        check::refused(
            "an unknown handler",
            w.cri.run_pod_on("other", &pod_config).await,
            "other",
        )?;
        for (handler, command, names) in [
            ("missing", "/bin/sh", "/nowhere/runc"),
            ("runc", "/no/such/program", "/no/such/program"),
            ("crun", "/no/such/program", "/no/such/program"),
        ] {
            let pod = w.cri.run_pod_on(handler, &pod_config).await?;
            let config = pod::container("main", &image, &[command]);
            let created = w.cri.create(&pod, &pod_config, &config).await;
            let refusal = match created {
                // Whether the program is looked for now or at the start is the runtime's own affair.
                Ok(container) => w.cri.start(&container).await.err().context("it was started")?,
                Err(refusal) => refusal,
            };
            ensure!(
                refusal.message().contains(names),
                "{handler}: {}",
                refusal.message()
            );
            w.remove(&pod).await.with_context(|| handler.to_owned())?;
            w.assert_nothing_left(&before)
                .await
                .with_context(|| handler.to_owned())?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_hangs_stalls_nobody_and_goes_with_its_pod() {
    test(async |w| {
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        let before = w.count()?;
        let pod_config = pod::pod(&w.slot, "hangs");
        let pod = w.cri.run_pod_on("hangs", &pod_config).await?;
        let (cri, of, with) = (w.cri.runtime.clone(), pod.clone(), pod_config.clone());
        let config = pod::idle("main", &image);
        let creation = tokio::spawn(async move {
            let request = k8s_cri::v1::CreateContainerRequest {
                pod_sandbox_id: of,
                config: Some(config),
                sandbox_config: Some(with),
            };
            cri.clone().create_container(request).await
        });
        wait::until("the runtime to hang", wait::PATIENCE, || {
            host::pids().iter().any(|pid| {
                let line = host::cmdline(*pid);
                line.contains("hangs") && line.contains("create") && line.contains(&pod)
            })
        })?;
        let other = w
            .run(pod::pod(&w.slot, "other"), &pod::idle("main", &image))
            .await?;
        w.remove(&other.pod).await?;
        timeout(Duration::from_secs(20), w.remove(&pod))
            .await
            .context("it can't be removed")??;
        ensure!(creation.await?.is_err());
        let left = host::pids()
            .iter()
            .any(|pid| host::cmdline(*pid).contains("98765"));
        ensure!(!left, "what the runtime had started goes on");
        w.assert_nothing_left(&before).await
    })
    .await;
}

async fn handlers(w: &World) -> Result<Vec<RuntimeHandler>> {
    let request = StatusRequest { verbose: false };
    Ok(w.cri
        .runtime
        .clone()
        .status(request)
        .await?
        .into_inner()
        .runtime_handlers)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_handler_says_what_it_can_do() {
    test(async |w| {
        let all = handlers(w).await?;
        let names: Vec<&str> = all.iter().map(|handler| handler.name.as_str()).collect();
        check::equal(
            "handlers",
            &names,
            &vec!["", "pintle", "runc", "crun", "hangs", "missing", "special"],
        )?;
        let features = |name: &str| all.iter().find(|h| h.name == name).and_then(|h| h.features);
        check::equal("settings alone", &features("special"), &features("pintle"))?;
        let missing = features("missing").context("features")?;
        ensure!(!missing.user_namespaces && !missing.recursive_read_only_mounts);

        // What the flags deny is refused at once.
        let mut config = pod::pod(&w.slot, "mapped");
        let security = config.linux.as_mut().and_then(|l| l.security_context.as_mut());
        let options = security
            .and_then(|s| s.namespace_options.as_mut())
            .context("options")?;
        let ids = vec![IdMapping {
            host_id: 200_000,
            container_id: 0,
            length: 65_536,
        }];
        options.userns_options = Some(UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: ids.clone(),
            gids: ids,
        });
        let refused = w.cri.run_pod_on("runc", &config).await;
        check::refused("a user namespace", refused, "userns")?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_has_settings_of_its_own() {
    test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::idle("main", &image);
        config.annotations.insert("allowed/one".into(), "1".into());
        config.annotations.insert("other/one".into(), "1".into());
        for (handler, is_special) in [("special", true), ("", false)] {
            let running = w.run_on(handler, pod::pod(&w.slot, "settings"), &config).await?;
            let id = &running.container;
            let said = w
                .exec(
                    id,
                    &["sh", "-c", "echo $BASE:$PATH; ls /opt 2>/dev/null; ls /dev"],
                )
                .await?;
            for word in ["yes:", "base", "extra"] {
                ensure!(
                    said.contains(word) == is_special,
                    "{handler:?}: {word} in {said:?}"
                );
            }
            ensure!(
                !said.contains("nowhere"),
                "the container's own environment counts: {said:?}"
            );
            let found = host::find_named(&w.slot.state(), "config.json");
            let spec = found
                .iter()
                .find(|path| path.to_string_lossy().contains(id.as_str()));
            let spec: serde_json::Value = serde_json::from_slice(&fs::read(spec.context("a spec")?)?)?;
            let limit = spec
                .pointer("/linux/resources/pids/limit")
                .and_then(serde_json::Value::as_i64);
            check::equal("pids", &limit, &is_special.then_some(77))?;
            let annotations = &spec["annotations"];
            ensure!(
                annotations["other/one"].is_null() && annotations["allowed/one"].is_string() == is_special
            );
            let rules = spec.pointer("/linux/resources/devices").map(ToString::to_string);
            ensure!(rules.unwrap_or_default().contains("229") == is_special);
            w.remove(&running.pod).await?;
        }
        Ok(())
    })
    .await;
}
