//! A kubelet's sequences, as it was traced: from its start over a pod's life to the pod's end.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStatus, ImageFsInfoRequest,
    LinuxContainerResources, ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest,
    ListPodSandboxStatsRequest, NetworkConfig, PodSandboxFilter, PodSandboxStateValue, RuntimeConfig,
    RuntimeConfigRequest, StatusRequest, UpdateContainerResourcesRequest, UpdateRuntimeConfigRequest,
    VersionRequest,
};
use pintle_tests::cgroups::Driver;
use pintle_tests::check::equal;
use pintle_tests::newer::{self, Nothing, UpdatePodRequest};
use pintle_tests::world::{self, World};
use pintle_tests::{host, kubelet, logs, pod, wait};
use tonic::Code;

const MIB: i64 = 1 << 20;

/// Where images lie; kubelet asks the file system there for its size.
async fn image_folder(w: &World) -> Result<String> {
    let mut images = w.cri.images.clone();
    let info = images.image_fs_info(ImageFsInfoRequest {}).await?.into_inner();
    let first = info.image_filesystems.first().context("a file system")?;
    ensure!(first.used_bytes.is_some() && first.timestamp > 0, "{first:?}");
    Ok(first.fs_id.clone().context("fs_id")?.mountpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_and_the_first_lists() {
    world::test(async |w| {
        let mut runtime = w.cri.runtime.clone();
        let version = VersionRequest {
            version: "0.1.0".into(),
        };
        let answer = runtime.version(version.clone()).await?.into_inner();
        equal("kubelet's API version", &answer.version, &"0.1.0")?;
        ensure!(Path::new(&image_folder(w).await?).is_dir());
        for _ in 0..3 {
            let answer = runtime
                .runtime_config(RuntimeConfigRequest {})
                .await?
                .into_inner();
            let driver = answer.linux.unwrap_or_default().cgroup_driver;
            let expected = match Driver::from_env() {
                Driver::Systemd => 0,
                Driver::Cgroupfs => 1,
            };
            ensure!(driver == expected, "another driver than is configured: {driver}");
        }
        runtime.version(version).await?;
        let status = runtime
            .status(StatusRequest { verbose: false })
            .await?
            .into_inner();
        let conditions = status.status.context("a status")?.conditions;
        for name in ["RuntimeReady", "NetworkReady"] {
            ensure!(
                conditions.iter().any(|c| c.r#type == name && c.status),
                "{conditions:?}"
            );
        }
        let handlers = status.runtime_handlers;
        ensure!(
            handlers.iter().filter(|h| h.name.is_empty()).count() == 1,
            "the handler without a name, once: {handlers:?}"
        );
        let network_config = Some(NetworkConfig {
            pod_cidr: w.slot.subnet(),
        });
        let runtime_config = Some(RuntimeConfig { network_config });
        runtime
            .update_runtime_config(UpdateRuntimeConfigRequest { runtime_config })
            .await?;
        // An empty message of a state is the state of number 0: ready, created.
        let filter = PodSandboxFilter {
            state: Some(PodSandboxStateValue::default()),
            ..Default::default()
        };
        for filter in [None, Some(filter)] {
            let answer = runtime.list_pod_sandbox(ListPodSandboxRequest { filter }).await?;
            ensure!(answer.into_inner().items.is_empty());
        }
        let answer = runtime.list_containers(ListContainersRequest::default()).await?;
        ensure!(answer.into_inner().containers.is_empty());
        ensure!(w.cri.image_list().await?.is_empty());
        image_folder(w).await?;
        let answer = runtime
            .list_container_stats(ListContainerStatsRequest::default())
            .await?;
        ensure!(answer.into_inner().stats.is_empty());
        let answer = runtime
            .list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())
            .await?;
        ensure!(answer.into_inner().stats.is_empty());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_pod_from_its_image_to_its_end() {
    world::test(async |w| {
        let written = w.busybox().await?;
        w.warm_up(&written).await?;
        let image = w.cri.image(&written).await?.context("the image")?;
        let config = kubelet::pod(&w.slot, "static")?;
        let before = w.count()?;
        let uid = kubelet::uid(&config);
        let sandbox = w.cri.run_pod(&config).await?;
        let status = w.cri.pod_status(&sandbox).await?;
        ensure!(status.created_at > 0 && status.annotations == config.annotations);
        ensure!(status.labels == config.labels && status.metadata == config.metadata);
        let address: IpAddr = status.network.context("a network")?.ip.parse()?;
        ensure!(!address.is_loopback(), "{address}");
        let found = kubelet::sandboxes(&w.cri, uid).await?;
        ensure!(found.len() == 1 && found[0].id == sandbox, "{found:?}");

        let words = w.slot.root().join("termination-log");
        std::fs::write(&words, "")?;
        let script =
            "echo started; trap 'echo farewell > /dev/termination-log; exit 3' TERM; sleep 600 & wait";
        let wanted = pod::with_mount(
            pod::shell("main", &written, script),
            &words.display().to_string(),
            "/dev/termination-log",
            false,
        );
        let wanted = kubelet::container(wanted, (&image.id, &written), 0);
        let id = w.cri.create(&sandbox, &config, &wanted).await?;
        w.cri.start(&id).await?;
        let log = Path::new(&config.log_directory).join(&wanted.log_path);
        ensure!(log.is_file(), "the log is there when the start is answered");
        let running = w.cri.status(&id).await?;
        check_status(&running, &image.id, &written, &log)?;
        ensure!(running.labels == wanted.labels && running.annotations == wanted.annotations);
        let mut mounts = running.mounts.iter();
        let mount = mounts.find(|m| m.container_path == "/dev/termination-log");
        ensure!(
            mount.is_some_and(|m| Path::new(&m.host_path) == words),
            "{running:?}"
        );
        let cgroup = &config.linux.as_ref().context("linux")?.cgroup_parent;
        ensure!(
            !host::pids_in_cgroup(cgroup).is_empty(),
            "nothing runs in {cgroup}"
        );
        wait::until("the first line", wait::PATIENCE, || {
            logs::read(&log).is_ok_and(|records| logs::lines(&records, "stdout") == ["started"])
        })?;

        w.cri.stop(&id, 30).await?;
        let ended = w.cri.status(&id).await?;
        equal("the exit code", &ended.exit_code, &3)?;
        equal("the reason", &ended.reason.as_str(), &"Error")?;
        ensure!(ended.finished_at > ended.started_at, "{ended:?}");
        ensure!(std::fs::read_to_string(&words)? == "farewell\n");
        kubelet::delete(&w.cri, uid, 30).await?;
        ensure!(log.is_file(), "logs are kubelet's to remove");
        w.assert_nothing_left(&before).await
    })
    .await;
}

/// What kubelet reads from the status of a running container, or fails the pod for.
fn check_status(status: &ContainerStatus, image: &str, written: &str, log: &Path) -> Result<()> {
    ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
    equal("image_id", &status.image_id.as_str(), &image)?;
    ensure!(status.image_ref.contains("@sha256:"), "{status:?}");
    equal(
        "image.image",
        &status.image.as_ref().map(|i| i.image.as_str()),
        &Some(written),
    )?;
    equal("log_path", &Path::new(&status.log_path), &log)?;
    ensure!(
        status.created_at > 0 && status.started_at >= status.created_at,
        "{status:?}"
    );
    ensure!(status.finished_at == 0 && status.user.is_some() && status.resources.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_fails_restarts_the_container_in_the_same_sandbox() {
    world::test(async |w| {
        let written = w.busybox().await?;
        let id = w.cri.image(&written).await?.context("the image")?.id;
        let config = kubelet::pod(&w.slot, "probed")?;
        let wanted = [pod::idle("main", &written)];
        let mut all = Vec::new();
        for attempt in 0..3 {
            kubelet::sync(&w.cri, &config, &wanted, (&id, &written)).await?;
            let sandbox = &kubelet::sandboxes(&w.cri, kubelet::uid(&config)).await?[0].id;
            let there = kubelet::containers(&w.cri, sandbox).await?;
            ensure!(there.len() == all.len() + 1, "exited ones stay listed: {there:?}");
            let running = there
                .iter()
                .find(|c| c.state() == ContainerState::ContainerRunning)
                .context("one that runs")?;
            equal(
                "the attempt",
                &running.metadata.as_ref().map(|m| m.attempt),
                &Some(attempt),
            )?;
            ensure!(w.cri.exec(&running.id, &["true"], 1).await?.exit_code == 0);
            ensure!(
                w.cri
                    .exec(&running.id, &["sh", "-c", "exit 7"], 1)
                    .await?
                    .exit_code
                    == 7
            );
            let late = w.cri.exec(&running.id, &["sleep", "600"], 1).await;
            ensure!(
                late.as_ref().is_err_and(|e| e.code() == Code::DeadlineExceeded),
                "a probe past its time: {late:?}"
            );
            w.cri.stop(&running.id, 30).await?;
            let log = Path::new(&config.log_directory).join(format!("main/{attempt}.log"));
            ensure!(log.is_file(), "each attempt has its log");
            all.push(running.id.clone());
        }
        let filter = ContainerFilter {
            state: Some(ContainerStateValue {
                state: ContainerState::ContainerExited.into(),
            }),
            ..Default::default()
        };
        let request = ListContainersRequest { filter: Some(filter) };
        let exited = w.cri.runtime.clone().list_containers(request).await?.into_inner();
        ensure!(exited.containers.len() == all.len(), "{exited:?}");
        // Garbage collection keeps the last of them.
        for dead in &all[..2] {
            w.cri.remove(dead).await?;
        }
        ensure!(w.cri.status(&all[2]).await?.exit_code == 0);
        kubelet::sync(&w.cri, &config, &wanted, (&id, &written)).await?;
        let attempts: Vec<u32> = w
            .cri
            .containers()
            .await?
            .iter()
            .filter_map(|c| Some(c.metadata.as_ref()?.attempt))
            .collect();
        ensure!(
            attempts.contains(&2) && attempts.contains(&3) && attempts.len() == 2,
            "{attempts:?}"
        );
        kubelet::delete(&w.cri, kubelet::uid(&config), 30).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_goes_one_resource_at_a_time_until_the_status_agrees() {
    world::test(async |w| {
        let written = w.busybox().await?;
        let config = kubelet::pod(&w.slot, "resized")?;
        let running = w.run(config.clone(), &pod::idle("main", &written)).await?;
        let resources = |shares, quota, memory| LinuxContainerResources {
            cpu_shares: shares,
            cpu_quota: quota,
            cpu_period: 100_000,
            memory_limit_in_bytes: memory,
            memory_swap_limit_in_bytes: memory,
            ..Default::default()
        };
        let steps = [
            resources(204, 20_000, 128 * MIB),
            resources(204, 20_000, 256 * MIB),
            resources(204, 20_000, 256 * MIB),
            resources(102, 10_000, 256 * MIB),
            resources(102, 10_000, 64 * MIB),
        ];
        for step in steps {
            let request = UpdateContainerResourcesRequest {
                container_id: running.container.clone(),
                linux: Some(step.clone()),
                ..Default::default()
            };
            w.cri.runtime.clone().update_container_resources(request).await?;
            let request = UpdatePodRequest {
                pod_sandbox_id: running.pod.clone(),
                overhead: None,
                resources: Some(step.clone()),
            };
            let method = "runtime.v1.RuntimeService/UpdatePodSandboxResources";
            let _: Nothing = newer::unary(&w.cri.channel, method, request).await?;
            let status = w.cri.status(&running.container).await?;
            let shown = status.resources.and_then(|r| r.linux).context("resources")?;
            let of = |r: &LinuxContainerResources| {
                (r.cpu_shares, r.cpu_quota, r.cpu_period, r.memory_limit_in_bytes)
            };
            equal("the resources in force", &of(&shown), &of(&step))?;
        }
        kubelet::delete(&w.cri, kubelet::uid(&config), 0).await
    })
    .await;
}
