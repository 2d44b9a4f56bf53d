//! Limits of containers that live: changed as a whole, kept over a restart, or not changed at all.

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};
use nix::mount::{MsFlags, mount, umount};
use pintle_tests::check::refused;
use pintle_tests::server::Kind;
use pintle_tests::world::{self, World};
use pintle_tests::{cgroups, host, newer, pod, wait};
use tonic::{Code, Status};

const MIB: i64 = 1 << 20;

async fn update(w: &World, id: &str, change: LinuxContainerResources) -> Result<(), Status> {
    let request = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(change),
        ..Default::default()
    };
    w.cri
        .runtime
        .clone()
        .update_container_resources(request)
        .await
        .map(drop)
}

async fn shown(w: &World, id: &str) -> Result<LinuxContainerResources> {
    let resources = w.cri.status(id).await?.resources.context("resources")?;
    resources.linux.context("linux")
}

/// What a control file of the container says, by its name on v1 or on v2.
fn control(w: &World, id: &str, v1: &str, v2: &str) -> Result<String> {
    let path = cgroups::of_container(&w.slot.cgroup(), id);
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

/// The quota, in either notation.
fn quota(w: &World, id: &str) -> Result<String> {
    let text = control(w, id, "cpu.cfs_quota_us", "cpu.max")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn limits(memory: i64, quota: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        memory_limit_in_bytes: memory,
        cpu_quota: quota,
        cpu_period: if quota == 0 { 0 } else { 100_000 },
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_running_and_waiting_containers_and_outlives_a_restart() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "resize");
        let running = w.run(config.clone(), &pod::idle("one", &image)).await?;
        let waiting = w
            .cri
            .create(&running.pod, &config, &pod::idle("two", &image))
            .await?;
        for id in [&running.container, &waiting] {
            let before = shown(w, id).await?;
            ensure!(
                before.memory_limit_in_bytes == 128 * MIB && before.cpu_shares == 102,
                "{before:?}"
            );
            let mut change = limits(200 * MIB, 30_000);
            change.oom_score_adj = -5;
            update(w, id, change).await?;
            ensure!(memory(w, id)? == (200 * MIB).to_string() && quota(w, id)? == "30000");
            let after = shown(w, id).await?;
            ensure!(after.memory_limit_in_bytes == 200 * MIB, "{after:?}");
            ensure!(
                (after.cpu_quota, after.cpu_period) == (30_000, 100_000),
                "{after:?}"
            );
            ensure!(after.cpu_shares == 102, "what isn't said stays: {after:?}");
            ensure!(
                after.oom_score_adj == before.oom_score_adj,
                "a matter of the start: {after:?}"
            );
            // Down, up, and the same again.
            for (limit, quota_now) in [(64 * MIB, 10_000), (160 * MIB, 50_000), (160 * MIB, 50_000)] {
                update(w, id, limits(limit, quota_now)).await?;
                ensure!(memory(w, id)? == limit.to_string() && quota(w, id)? == quota_now.to_string());
            }
        }
        w.cri.start(&waiting).await?;
        ensure!(
            memory(w, &waiting)? == (160 * MIB).to_string(),
            "the start changes nothing"
        );
        w.restart().await?;
        for id in [&running.container, &waiting] {
            let kept = shown(w, id).await?;
            ensure!(
                kept.memory_limit_in_bytes == 160 * MIB && kept.cpu_quota == 50_000,
                "{kept:?}"
            );
        }
        update(w, &waiting, limits(0, -1)).await?;
        ensure!(
            ["-1", "max"].contains(&quota(w, &waiting)?.as_str()),
            "no limit any more"
        );
        w.cri.stop(&waiting, 0).await?;
        update(w, &waiting, limits(64 * MIB, 0))
            .await
            .context("what has ended remembers")?;
        ensure!(shown(w, &waiting).await?.memory_limit_in_bytes == 64 * MIB);
        let unknown = update(w, "0123456789", limits(64 * MIB, 0))
            .await
            .expect_err("unknown");
        ensure!(unknown.code() == Code::NotFound, "{unknown:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_less_memory_than_is_in_use_and_changes_nothing_then() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let script = "x=$(head -c 41943040 /dev/zero | tr '\\0' x); echo ready; trap 'exit 0' TERM; sleep 86400 & wait";
        let running = w
            .run(pod::pod(&w.slot, "full"), &pod::shell("one", &image, script))
            .await?;
        wait::until_some("the container to be ready", wait::PATIENCE, || async {
            running.lines().ok().filter(|lines| !lines.is_empty())
        })
        .await?;
        let id = &running.container;
        let before = (shown(w, id).await?, memory(w, id)?, quota(w, id)?);
        let error = refused("16 MiB", update(w, id, limits(16 * MIB, 40_000)).await, "memory.limit")?;
        ensure!(error.code() == Code::InvalidArgument, "{error:?}");
        ensure!((shown(w, id).await?, memory(w, id)?, quota(w, id)?) == before);
        ensure!(w.exec(id, &["echo", "alive"]).await? == "alive\n", "not killed for it");

        // The memory is taken before the processors are refused, and given back.
        let mut bad = limits(256 * MIB, 0);
        bad.cpuset_cpus = "4000".into();
        update(w, id, bad).await.expect_err("there is no such processor");
        ensure!((shown(w, id).await?, memory(w, id)?, quota(w, id)?) == before);
        let mut bad = limits(0, 0);
        bad.cpuset_cpus = "one".into();
        refused("no list of processors", update(w, id, bad).await, "cpuset_cpus")?;
        update(w, id, limits(256 * MIB, 0)).await?;
        ensure!(memory(w, id)? == (256 * MIB).to_string());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_resources_are_remembered_and_its_cgroup_left_alone() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let running = w.run(pod::pod(&w.slot, "pod"), &pod::idle("one", &image)).await?;
        let request = |id: &str| newer::UpdatePodRequest {
            pod_sandbox_id: id.to_owned(),
            overhead: None,
            resources: Some(limits(512 * MIB, 70_000)),
        };
        let method = "runtime.v1.RuntimeService/UpdatePodSandboxResources";
        let before = memory(w, "")?;
        let answer: newer::Nothing = newer::unary(&w.cri.channel, method, request(&running.pod)).await?;
        ensure!(answer == newer::Nothing {});
        ensure!(memory(w, "")? == before, "the pod's cgroup is the kubelet's");
        w.restart().await?;
        let status = k8s_cri::v1::PodSandboxStatusRequest {
            pod_sandbox_id: running.pod.clone(),
            verbose: true,
        };
        let info = w
            .cri
            .runtime
            .clone()
            .pod_sandbox_status(status)
            .await?
            .into_inner()
            .info;
        let info: serde_json::Value = serde_json::from_str(info.get("info").context("info")?)?;
        let kept = &info["config"]["linux"]["resources"]["memory_limit_in_bytes"];
        ensure!(kept.as_i64() == Some(512 * MIB), "{info}");
        let unknown: Result<newer::Nothing, Status> =
            newer::unary(&w.cri.channel, method, request("0123")).await;
        ensure!(unknown.expect_err("unknown").code() == Code::NotFound);
        Ok(())
    })
    .await;
}

/// What the record doesn't say isn't in force, also where there was no limit before.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_recorded_is_taken_back() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let running = w
            .run(pod::pod(&w.slot, "record"), &pod::idle("one", &image))
            .await?;
        let id = &running.container;
        let before = (memory(w, id)?, quota(w, id)?);
        let records = w.slot.root().join("daemon/containers");
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        for (source, flags) in [(Some(&records), MsFlags::MS_BIND), (None, read_only)] {
            mount(source, &records, None::<&str>, flags, None::<&str>).context("mount")?;
        }
        let refused = update(w, id, limits(64 * MIB, 20_000)).await;
        umount(&records)?;
        let refused = refused.expect_err("the record can't be written");
        ensure!(refused.code() == Code::Internal, "{refused:?}");
        ensure!(
            (memory(w, id)?, quota(w, id)?) == before,
            "the limits are not those of {before:?}"
        );
        update(w, id, limits(64 * MIB, 20_000)).await?;
        ensure!(memory(w, id)? == (64 * MIB).to_string());
        Ok(())
    })
    .await;
}
