//! What plugins change about containers, seen from inside and from the kernel.

use anyhow::{Context as _, Result, ensure};
use k8s_cri::v1::{ContainerState, LinuxContainerResources, UpdateContainerResourcesRequest};
use pintle_tests::check::{equal, failed};
use pintle_tests::nri::script::{socket, test};
use pintle_tests::nri::wire::{
    Adjustment, CdiDevice, Created, Device, Evict, Hook, Hooks, KeyValue, LinuxAdjustment, Mount, Number,
    Resources, Rlimit, Seccomp, Syscall, UpdateContainers, Updated, UpdatesFailed, limits,
};
use pintle_tests::nri::{Answer, Asked, Plugin};
use pintle_tests::world::World;
use pintle_tests::{host, pod};
use prost::Message;

const MIB: i64 = 1 << 20;

/// What a control file of the container says, by its name on v1 or on v2.
fn control(w: &World, id: &str, v1: &str, v2: &str) -> Result<String> {
    let path = format!("{}/{id}", w.slot.cgroup());
    for root in host::cgroup_roots()? {
        for name in [v1, v2] {
            let file = root.join(path.trim_start_matches('/')).join(name);
            if let Ok(text) = std::fs::read_to_string(&file) {
                return Ok(text.trim().to_owned());
            }
        }
    }
    anyhow::bail!("no control file {v1} or {v2} below {path}")
}

fn memory(w: &World, id: &str) -> Result<String> {
    control(w, id, "memory.limit_in_bytes", "memory.max")
}

/// Answers every creation with an adjustment.
fn adjusting(adjust: Adjustment) -> impl FnMut(&Asked) -> Answer + Send {
    move |asked| match asked.method.as_str() {
        "CreateContainer" => Answer::with(&Created {
            adjust: Some(adjust.clone()),
            ..Created::default()
        }),
        _ => Answer::Yes,
    }
}

fn everything(w: &World, hook: &str) -> Adjustment {
    let seccomp = Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: vec![Syscall {
            names: vec!["mkdir".into(), "mkdirat".into()],
            action: "SCMP_ACT_ERRNO".into(),
        }],
    };
    let null = Device {
        path: "/dev/nri-null".into(),
        kind: "c".into(),
        major: 1,
        minor: 3,
    };
    let mut resources = limits("", 300, 64 * MIB).linux.and_then(|l| l.resources);
    resources.get_or_insert_with(Resources::default).pids = Some(Number { value: 40 });
    Adjustment {
        annotations: [("from.plugin".to_owned(), "yes".to_owned())].into(),
        mounts: vec![Mount {
            destination: "/from-plugin".into(),
            kind: "bind".into(),
            source: w.slot.root().join("shared").display().to_string(),
            options: vec!["rbind".into(), "ro".into()],
        }],
        env: vec![KeyValue {
            key: "FROM_PLUGIN".into(),
            value: "yes".into(),
        }],
        hooks: Some(Hooks {
            create_runtime: vec![Hook {
                path: "/bin/sh".into(),
                args: vec!["sh".into(), "-c".into(), hook.to_owned()],
            }],
        }),
        linux: Some(LinuxAdjustment {
            devices: vec![null],
            resources,
            oom_score_adj: Some(Number { value: 950 }),
            seccomp: Some(seccomp),
        }),
        rlimits: vec![Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            hard: 777,
            soft: 555,
        }],
        ..Adjustment::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adjustments_are_seen_inside_the_container() {
    test("", async |w| {
        let image = w.busybox().await?;
        let shared = w.slot.root().join("shared");
        std::fs::create_dir_all(&shared)?;
        std::fs::write(shared.join("file"), "of the plugin")?;
        let hooked = w.slot.root().join("hooked");
        let hook = format!("cat > {}", hooked.display());
        let script = adjusting(everything(w, &hook));
        let _plugin = Plugin::connect(&socket(&w.slot), "10", "all", script).await?;
        let inside = "echo $FROM_PLUGIN; cat /from-plugin/file; echo; touch /from-plugin/x 2>/dev/null || echo ro; \
                      echo x > /dev/nri-null && echo written; ulimit -n; ulimit -Hn; \
                      mkdir /made 2>/dev/null || echo refused; cat /proc/self/oom_score_adj";
        let config = pod::shell("all", &image, inside);
        let running = w.run(pod::pod(&w.slot, "all"), &config).await?;
        w.wait_exited(&running.container).await?;
        let lines = running.lines()?;
        let wanted = ["yes", "of the plugin", "ro", "written", "555", "777", "refused", "950"];
        equal("inside", &lines, &wanted)?;
        let state = std::fs::read_to_string(&hooked).context("the hook did not run")?;
        ensure!(state.contains(&running.container), "{state}");

        let idle = w.add(&running.pod, &running.pod_config, &pod::idle("idle", &image)).await?;
        equal("memory", &memory(w, &idle)?, &(64 * MIB).to_string())?;
        equal("pids", &control(w, &idle, "pids.max", "pids.max")?, &"40")?;
        let status = w.cri.status(&idle).await?;
        let shown = status.resources.and_then(|r| r.linux).context("no resources")?;
        equal("shown", &(shown.cpu_shares, shown.memory_limit_in_bytes), &(300, 64 * MIB))?;
        ensure!(!status.annotations.contains_key("from.plugin"), "CRI shows what it was given");
        w.remove(&running.pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_granted_is_an_error_that_names_it() {
    test("", async |w| {
        let image = w.busybox().await?;
        let pod_config = pod::pod(&w.slot, "wishes");
        let pod = w.cri.run_pod(&pod_config).await?;
        let env = |key: &str| Adjustment {
            env: vec![KeyValue {
                key: key.into(),
                value: String::new(),
            }],
            ..Adjustment::default()
        };
        let no_device = Adjustment {
            cdi: vec![CdiDevice {
                name: "vendor.example/class=nonexistent".into(),
            }],
            ..Adjustment::default()
        };
        for (wish, words) in [
            (env("A=B"), "env"),
            (no_device, "vendor.example/class=nonexistent"),
        ] {
            let _plugin = Plugin::connect(&socket(&w.slot), "10", "wishes", adjusting(wish)).await?;
            let container = pod::idle("wishes", &image);
            failed(words, w.cri.create(&pod, &pod_config, &container).await, words)?;
            ensure!(w.cri.containers().await?.is_empty());
        }
        w.remove(&pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_change_limits_unasked_and_end_containers() {
    test("", async |w| {
        let image = w.busybox().await?;
        let plugin = Plugin::connect(&socket(&w.slot), "10", "balancer", |_: &Asked| Answer::Yes).await?;
        let config = pod::pod(&w.slot, "balanced");
        let running = w.run(config, &pod::idle("one", &image)).await?;
        let request = UpdateContainers {
            update: vec![
                limits(&running.container, 0, 48 * MIB),
                limits("nobody", 5, 0),
                limits(&running.container[..12], 5, 0),
            ],
            evict: Vec::new(),
        };
        let answer = plugin.call("UpdateContainers", &request).await?;
        let failed: Vec<_> = UpdatesFailed::decode(answer.as_slice())?
            .failed
            .into_iter()
            .map(|update| update.container)
            .collect();
        equal("failed", &failed, &["nobody", &running.container[..12]])?;
        equal("memory", &memory(w, &running.container)?, &(48 * MIB).to_string())?;
        // it holds, and is the base of what kubelet changes
        w.restart().await?;
        equal("memory", &memory(w, &running.container)?, &(48 * MIB).to_string())?;
        let plugin = Plugin::connect(&socket(&w.slot), "10", "balancer", |_: &Asked| Answer::Yes).await?;
        let request = UpdateContainers {
            update: Vec::new(),
            evict: vec![Evict {
                container: running.container.clone(),
                reason: "no room".into(),
            }],
        };
        plugin.call("UpdateContainers", &request).await?;
        let state = w.cri.status(&running.container).await?.state();
        equal("state", &state, &ContainerState::ContainerExited)?;
        plugin.wait_for("StopContainer", 1).await?;
        w.remove(&running.pod).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_change_what_kubelet_asks_for() {
    test("", async |w| {
        let image = w.busybox().await?;
        let one = w
            .run(pod::pod(&w.slot, "pair"), &pod::idle("one", &image))
            .await?;
        let other = w
            .add(&one.pod, &one.pod_config, &pod::idle("other", &image))
            .await?;
        let (of_one, of_other) = (one.container.clone(), other.clone());
        let script = move |asked: &Asked| match asked.method.as_str() {
            "UpdateContainer" => Answer::with(&Updated {
                update: vec![limits(&of_one, 0, 40 * MIB), limits(&of_other, 0, 24 * MIB)],
            }),
            _ => Answer::Yes,
        };
        let plugin = Plugin::connect(&socket(&w.slot), "10", "pair", script).await?;
        let request = UpdateContainerResourcesRequest {
            container_id: one.container.clone(),
            linux: Some(LinuxContainerResources {
                memory_limit_in_bytes: 100 * MIB,
                cpu_shares: 512,
                ..LinuxContainerResources::default()
            }),
            ..UpdateContainerResourcesRequest::default()
        };
        w.cri
            .runtime
            .clone()
            .update_container_resources(request.clone())
            .await?;
        equal("one", &memory(w, &one.container)?, &(40 * MIB).to_string())?;
        equal("other", &memory(w, &other)?, &(24 * MIB).to_string())?;
        let shown = w
            .cri
            .status(&one.container)
            .await?
            .resources
            .and_then(|r| r.linux);
        equal("shares", &shown.context("no resources")?.cpu_shares, &512)?;
        let told = plugin.methods_about(&one.container);
        equal("told", &told, &["UpdateContainer", "PostUpdateContainer"])?;
        drop(plugin);

        let strict = |asked: &Asked| match asked.method.as_str() {
            "UpdateContainer" => Answer::No("as it is".into()),
            _ => Answer::Yes,
        };
        let _strict = Plugin::connect(&socket(&w.slot), "10", "strict", strict).await?;
        let answer = w.cri.runtime.clone().update_container_resources(request).await;
        failed("update", answer, "as it is")?;
        equal("one", &memory(w, &one.container)?, &(40 * MIB).to_string())?;
        w.remove(&one.pod).await
    })
    .await;
}
