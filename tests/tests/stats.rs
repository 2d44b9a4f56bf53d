//! Statistics and metrics: real numbers of real containers, and lists that nothing can break.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{
    ContainerStats, ContainerStatsFilter, ContainerStatsRequest, ListContainerStatsRequest,
    ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest, PodSandboxStats,
    PodSandboxStatsRequest, UInt64Value,
};
use pintle_tests::server::Kind;
use pintle_tests::world::{self, World};
use pintle_tests::{cgroups, newer, pod, wait};
use tonic::{Code, Status};

async fn one(w: &World, id: &str) -> Result<ContainerStats, Status> {
    let request = ContainerStatsRequest {
        container_id: id.to_owned(),
    };
    let answer = w.cri.runtime.clone().container_stats(request).await?;
    Ok(answer.into_inner().stats.unwrap_or_default())
}

async fn list(w: &World, filter: Option<ContainerStatsFilter>) -> Result<Vec<ContainerStats>, Status> {
    let request = ListContainerStatsRequest { filter };
    Ok(w.cri
        .runtime
        .clone()
        .list_container_stats(request)
        .await?
        .into_inner()
        .stats)
}

async fn of_pod(w: &World, id: &str) -> Result<PodSandboxStats, Status> {
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let answer = w.cri.runtime.clone().pod_sandbox_stats(request).await?;
    Ok(answer.into_inner().stats.unwrap_or_default())
}

fn number(value: &Option<UInt64Value>) -> u64 {
    value.as_ref().map_or(0, |value| value.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn tell_what_a_container_uses() {
    world::test(async |w| {
        let image = w.busybox().await?;
        // Busy, with 24 MiB of its own and 8 MiB written.
        let script = "dd if=/dev/zero of=/written bs=1M count=8 2>/dev/null; x=$(head -c 25165824 /dev/zero | tr '\\0' x); \
                      echo ready; while :; do :; done";
        let config = pod::shell("busy", &image, script);
        let running = w.run(pod::pod(&w.slot, "busy"), &config).await?;
        wait::until_some("the container to be ready", wait::PATIENCE, || async {
            running.lines().ok().filter(|lines| !lines.is_empty())
        })
        .await?;

        let first = one(w, &running.container).await?;
        let attributes = first.attributes.clone().context("attributes")?;
        ensure!(attributes.id == running.container, "{attributes:?}");
        ensure!(attributes.labels.contains_key("container"), "{attributes:?}");
        let (cpu, memory) = (first.cpu.context("cpu")?, first.memory.context("memory")?);
        ensure!(cpu.timestamp > 0 && memory.timestamp > 0);
        let (usage, rss) = (number(&memory.usage_bytes), number(&memory.rss_bytes));
        ensure!(rss > 24 << 20 && usage >= rss && usage < 128 << 20, "{memory:?}");
        let (set, available) = (number(&memory.working_set_bytes), number(&memory.available_bytes));
        ensure!(set >= rss && set <= usage, "{memory:?}");
        ensure!(set + available == 128 << 20, "the limit is 128 MiB: {memory:?}");
        ensure!(number(&memory.page_faults) > 0, "{memory:?}");

        let before = number(&cpu.usage_core_nano_seconds);
        let later = wait::until_some("a rate", wait::PATIENCE, || async {
            let stats = one(w, &running.container).await.ok()?;
            stats.cpu.filter(|cpu| cpu.usage_nano_cores.is_some())
        })
        .await?;
        ensure!(number(&later.usage_core_nano_seconds) > before, "{later:?}");
        let cores = number(&later.usage_nano_cores);
        ensure!(cores > 1_000_000 && cores < 64_000_000_000, "a busy loop: {later:?}");

        let layer = wait::until_some("the layer to be counted", wait::PATIENCE, || async {
            let layer = one(w, &running.container).await.ok()?.writable_layer?;
            (number(&layer.used_bytes) > 8 << 20).then_some(layer)
        })
        .await?;
        ensure!(layer.timestamp > 0 && number(&layer.inodes_used) >= 2, "{layer:?}");
        let place = layer.fs_id.context("a place")?.mountpoint;
        ensure!(std::path::Path::new(&place).exists(), "{place}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn come_with_pressure_where_the_kernel_counts_it() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle || !std::path::Path::new("/proc/pressure/cpu").exists() {
            return Ok(());
        }
        let image = w.busybox().await?;
        let config = pod::shell(
            "busy",
            &image,
            "while :; do :; done & while :; do :; done & while :; do :; done",
        );
        w.run(pod::pod(&w.slot, "busy"), &config).await?;
        // Three loops, held to one processor, must wait for one another.
        let pressed = wait::until_some("pressure", wait::PATIENCE, || async {
            let request = newer::ContainerStatsRequest { filter: None };
            let method = "runtime.v1.RuntimeService/StreamContainerStats";
            let parts: Vec<newer::ContainerStatsPart> =
                newer::parts(&w.cri.channel, method, request).await.ok()?;
            let stats = parts.into_iter().next()?.items.into_iter().next()?;
            let some = stats.cpu.as_ref()?.psi.as_ref()?.some.as_ref()?.total;
            (some > 0).then_some(stats)
        })
        .await?;
        let memory = pressed.memory.and_then(|memory| memory.psi);
        let io = pressed.io.and_then(|io| io.psi);
        ensure!(memory.is_some() && io.is_some(), "{memory:?} {io:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn are_filtered_and_leave_out_what_has_ended() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "three");
        let first = w.run(config.clone(), &pod::idle("one", &image)).await?;
        let second = w.add(&first.pod, &config, &pod::idle("two", &image)).await?;
        let other = w
            .run(pod::pod(&w.slot, "other"), &pod::idle("one", &image))
            .await?;
        let ids = |stats: Vec<ContainerStats>| -> BTreeSet<String> {
            stats.into_iter().filter_map(|s| Some(s.attributes?.id)).collect()
        };
        let all = BTreeSet::from([first.container.clone(), second.clone(), other.container.clone()]);
        ensure!(ids(list(w, None).await?) == all);
        let filter = |change: &dyn Fn(&mut ContainerStatsFilter)| {
            let mut filter = ContainerStatsFilter::default();
            change(&mut filter);
            Some(filter)
        };
        ensure!(ids(list(w, filter(&|_| {})).await?) == all, "an empty filter");
        let by_pod = filter(&|f| f.pod_sandbox_id.clone_from(&first.pod));
        ensure!(ids(list(w, by_pod).await?) == BTreeSet::from([first.container.clone(), second.clone()]));
        let by_id = filter(&|f| f.id.clone_from(&second));
        ensure!(ids(list(w, by_id).await?) == BTreeSet::from([second.clone()]));
        let by_label = filter(&|f| {
            f.label_selector.insert("container".into(), "one".into());
        });
        ensure!(
            ids(list(w, by_label).await?)
                == BTreeSet::from([first.container.clone(), other.container.clone()])
        );

        w.cri.stop(&second, 0).await?;
        ensure!(!ids(list(w, None).await?).contains(&second), "it has ended");
        let ended = one(w, &second).await?;
        ensure!(ended.attributes.is_some() && ended.cpu.is_none(), "{ended:?}");
        let error = one(w, "0123456789").await.expect_err("unknown");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        let error = of_pod(w, "0123456789").await.expect_err("unknown");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_never_fail_while_containers_come_and_go() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "busy");
        let pod_id = w.cri.run_pod(&config).await?;
        let churn = async {
            for n in 0..15 {
                let container = pod::idle(&format!("c{n}"), &image);
                let id = w.add(&pod_id, &config, &container).await?;
                w.cri.stop(&id, 0).await?;
                w.cri.remove(&id).await?;
            }
            anyhow::Ok(())
        };
        let ask = async {
            loop {
                list(w, None).await.context("ListContainerStats")?;
                let request = ListPodSandboxStatsRequest::default();
                let answer = w.cri.runtime.clone().list_pod_sandbox_stats(request).await;
                answer.context("ListPodSandboxStats")?;
                let request = ListPodSandboxMetricsRequest::default();
                let answer = w.cri.runtime.clone().list_pod_sandbox_metrics(request).await;
                answer.context("ListPodSandboxMetrics")?;
            }
        };
        tokio::select! {
            done = churn => done,
            failed = ask => failed,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_pod_count_its_network_and_all_of_its_containers() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::pod(&w.slot, "net");
        // A cgroup of its own, as a kubelet makes for each pod.
        let parent = cgroups::child(&w.slot.cgroup(), "pod-net");
        config.linux.get_or_insert_default().cgroup_parent = parent;
        let running = w.run(config.clone(), &pod::idle("one", &image)).await?;
        w.add(&running.pod, &config, &pod::idle("two", &image)).await?;
        let network = |stats: &PodSandboxStats| stats.linux.clone()?.network?.default_interface;
        let before = network(&of_pod(w, &running.pod).await?).context("an interface")?;
        ensure!(before.name == "eth0", "{before:?}");
        let ip = w.cri.pod_ip(&running.pod).await?;
        let gateway = ip
            .rsplit_once('.')
            .map(|(net, _)| format!("{net}.1"))
            .context("an address")?;
        w.exec(&running.container, &["ping", "-c", "3", "-s", "1000", &gateway])
            .await?;
        let stats = of_pod(w, &running.pod).await?;
        let after = network(&stats).context("an interface")?;
        for (before, after) in [
            (before.rx_bytes, after.rx_bytes),
            (before.tx_bytes, after.tx_bytes),
        ] {
            ensure!(number(&after) >= number(&before) + 3000, "{before:?} {after:?}");
        }
        let linux = stats.linux.context("linux")?;
        ensure!(linux.containers.len() == 2, "{linux:?}");
        ensure!(
            linux
                .network
                .context("network")?
                .interfaces
                .iter()
                .all(|i| i.name != "lo")
        );
        let sum: u64 = linux
            .containers
            .iter()
            .map(|c| number(&c.cpu.unwrap_or_default().usage_core_nano_seconds))
            .sum();
        ensure!(
            number(&linux.cpu.context("cpu")?.usage_core_nano_seconds) >= sum,
            "the pod has both"
        );
        // A shell and its sleep in each.
        ensure!(number(&linux.process.context("processes")?.process_count) >= 4);

        w.cri.stop_pod(&running.pod).await?;
        of_pod(w, &running.pod)
            .await
            .expect_err("a stopped pod has no statistics");
        let request = ListPodSandboxStatsRequest::default();
        let listed = w
            .cri
            .runtime
            .clone()
            .list_pod_sandbox_stats(request)
            .await?
            .into_inner()
            .stats;
        ensure!(listed.is_empty(), "{listed:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_pod_on_the_nodes_network_have_no_network() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let config = pod::on_host_network(pod::pod(&w.slot, "host"));
        let container = pod::container_on_host_network(pod::idle("one", &image));
        let running = w.run(config, &container).await?;
        let linux = of_pod(w, &running.pod).await?.linux.context("linux")?;
        ensure!(
            linux.network.is_none(),
            "the node's traffic is not the pod's: {linux:?}"
        );
        ensure!(linux.cpu.is_some());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_described_and_fit_their_labels() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let mut config = pod::idle("one", &image);
        let resources = pod::resources(&mut config);
        resources.memory_limit_in_bytes = 64 << 20;
        resources.memory_swap_limit_in_bytes = 64 << 20;
        (resources.cpu_quota, resources.cpu_period) = (20_000, 100_000);
        let running = w.run(pod::pod(&w.slot, "metrics"), &config).await?;
        w.exec(
            &running.container,
            &["dd", "if=/dev/zero", "of=/x", "bs=1M", "count=1"],
        )
        .await?;

        let request = ListMetricDescriptorsRequest {};
        let described = w
            .cri
            .runtime
            .clone()
            .list_metric_descriptors(request)
            .await?
            .into_inner();
        let described: BTreeMap<String, usize> = described
            .descriptors
            .into_iter()
            .map(|d| (d.name, d.label_keys.len()))
            .collect();
        let request = ListPodSandboxMetricsRequest {};
        let pods = w
            .cri
            .runtime
            .clone()
            .list_pod_sandbox_metrics(request)
            .await?
            .into_inner();
        let pod = pods.pod_metrics.into_iter().next().context("a pod")?;
        let container = pod.container_metrics.into_iter().next().context("a container")?;
        ensure!(container.container_id == running.container);
        let mut values = BTreeMap::new();
        for metric in container.metrics.into_iter().chain(pod.metrics) {
            let labels = described.get(&metric.name).with_context(|| metric.name.clone())?;
            ensure!(metric.label_values.len() == *labels, "{metric:?}");
            values.insert(metric.name, number(&metric.value));
        }
        // A device that nothing was read from, pages of a size that can't be counted and the like may be missing.
        for name in described.keys() {
            let may_miss = ["blkio", "fs_reads", "fs_writes", "hugetlb", "pressure"];
            ensure!(
                values.contains_key(name) || may_miss.iter().any(|part| name.contains(part)),
                "{name} has no value"
            );
        }
        for (name, value) in [
            ("container_spec_memory_limit_bytes", 64 << 20),
            ("container_spec_memory_swap_limit_bytes", 64 << 20),
            ("container_spec_cpu_quota", 20_000),
            ("container_spec_cpu_period", 100_000),
            ("container_processes", 2),
            ("container_threads", 2),
        ] {
            ensure!(values.get(name) == Some(&value), "{name}: {:?}", values.get(name));
        }
        for name in [
            "container_memory_usage_bytes",
            "container_file_descriptors",
            "container_start_time_seconds",
        ] {
            ensure!(values.get(name).is_some_and(|value| *value > 0), "{name}");
        }
        Ok(())
    })
    .await;
}
