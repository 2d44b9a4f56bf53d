//! The lists that are answered in parts: the same items as their twins', each once.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_cri::v1::{ContainerFilter, PodSandboxFilter};
use pintle_tests::newer::{self, parts};
use pintle_tests::server::Kind;
use pintle_tests::world::World;
use pintle_tests::{pod, world};
use prost::Message;

const RUNTIME: &str = "runtime.v1.RuntimeService";

#[tokio::test(flavor = "multi_thread")]
async fn hold_what_their_twins_hold() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let empty = pods(w).await?;
        ensure!(empty.is_empty(), "an empty list has no parts: {empty:?}");

        let image = w.busybox().await?;
        let (mut containers, mut sandboxes) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..3 {
            let config = pod::pod(&w.slot, &format!("pod-{n}"));
            let running = w.run(config, &pod::idle("one", &image)).await?;
            containers.insert(running.container);
            sandboxes.insert(running.pod);
        }
        once(&pods(w).await?, &sandboxes)?;
        let request = newer::ContainersRequest { filter: None };
        let seen = ids(w, "StreamContainers", request, |part: newer::ContainersPart| {
            part.items.into_iter().map(|item| item.id).collect()
        });
        once(&seen.await?, &containers)?;
        let request = newer::ContainerStatsRequest { filter: None };
        let seen = ids(
            w,
            "StreamContainerStats",
            request,
            |part: newer::ContainerStatsPart| {
                let items = part.items.into_iter();
                items.map(|item| item.attributes.unwrap_or_default().id).collect()
            },
        );
        once(&seen.await?, &containers)?;
        let request = newer::PodStatsRequest { filter: None };
        let seen = ids(
            w,
            "StreamPodSandboxStats",
            request,
            |part: newer::PodStatsPart| {
                let items = part.items.into_iter();
                items.map(|item| item.attributes.unwrap_or_default().id).collect()
            },
        );
        once(&seen.await?, &sandboxes)?;
        let request = newer::MetricsRequest {};
        let seen = ids(
            w,
            "StreamPodSandboxMetrics",
            request,
            |part: newer::MetricsPart| part.items.into_iter().map(|item| item.pod_sandbox_id).collect(),
        );
        once(&seen.await?, &sandboxes)?;
        let request = newer::ImagesRequest { filter: None };
        let method = "runtime.v1.ImageService/StreamImages";
        let seen: Vec<newer::ImagesPart> = parts(&w.cri.channel, method, request).await?;
        let seen: Vec<Vec<String>> = seen
            .into_iter()
            .map(|part| part.items.into_iter().map(|item| item.id).collect())
            .collect();
        let all = w.cri.image_list().await?.into_iter().map(|image| image.id);
        once(&seen, &all.collect())
    })
    .await;
}

/// The ids in each part of a list.
async fn ids<Q, A>(
    w: &World,
    list: &str,
    request: Q,
    ids: impl Fn(A) -> Vec<String>,
) -> Result<Vec<Vec<String>>>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let parts: Vec<A> = parts(&w.cri.channel, &format!("{RUNTIME}/{list}"), request).await?;
    Ok(parts.into_iter().map(ids).collect())
}

async fn pods(w: &World) -> Result<Vec<Vec<String>>> {
    let request = newer::PodsRequest { filter: None };
    ids(w, "StreamPodSandboxes", request, |part: newer::PodsPart| {
        part.items.into_iter().map(|item| item.id).collect()
    })
    .await
}

/// Fails unless the parts hold exactly the expected items, each once, and no part is empty.
fn once(lists: &[Vec<String>], expected: &BTreeSet<String>) -> Result<()> {
    ensure!(
        lists.iter().all(|list| !list.is_empty()),
        "an empty part: {lists:?}"
    );
    let all: Vec<String> = lists.concat();
    let distinct: BTreeSet<String> = all.iter().cloned().collect();
    ensure!(
        all.len() == distinct.len() && distinct == *expected,
        "{all:?}, expected {expected:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_come_in_several_messages_when_they_are_long() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "large");
        let pod_id = w.cri.run_pod(&config).await?;
        for n in 0..4 {
            let mut one = pod::idle(&format!("c{n}"), &image);
            one.annotations.insert("filler".into(), "x".repeat(400_000));
            w.cri.create(&pod_id, &config, &one).await?;
        }
        let method = format!("{RUNTIME}/StreamContainers");
        let filter = ContainerFilter {
            pod_sandbox_id: pod_id.clone(),
            ..Default::default()
        };
        let request = newer::ContainersRequest { filter: Some(filter) };
        let seen: Vec<newer::ContainersPart> = parts(&w.cri.channel, &method, request).await?;
        let lengths: Vec<usize> = seen.iter().map(|part| part.items.len()).collect();
        ensure!(
            lengths.len() > 1 && lengths.iter().sum::<usize>() == 4,
            "{lengths:?}"
        );
        let filter = PodSandboxFilter {
            id: "0000".into(),
            ..Default::default()
        };
        let request = newer::PodsRequest { filter: Some(filter) };
        let method = format!("{RUNTIME}/StreamPodSandboxes");
        let seen: Vec<newer::PodsPart> = parts(&w.cri.channel, &method, request).await?;
        ensure!(
            seen.iter()
                .all(|part| part.items.iter().all(|item| item.id.starts_with("0000"))),
            "{seen:?}"
        );
        Ok(())
    })
    .await;
}
