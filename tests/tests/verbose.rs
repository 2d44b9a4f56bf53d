//! What the debugging tools read: the verbose parts of the statuses, as JSON.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::{
    ContainerStatusRequest, ImageStatusRequest, LinuxContainerResources, PodSandboxStatusRequest,
    StatusRequest, UpdateContainerResourcesRequest,
};
use pintle_tests::server::Kind;
use pintle_tests::{cri, pod, world};
use serde_json::Value;

fn json(info: &HashMap<String, String>, key: &str) -> Result<Value> {
    Ok(serde_json::from_str(
        info.get(key).with_context(|| key.to_owned())?,
    )?)
}

#[tokio::test(flavor = "multi_thread")]
async fn verbose_statuses_hold_what_tools_look_for() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let running = w
            .run(pod::pod(&w.slot, "verbose"), &pod::idle("one", &image))
            .await?;
        let mut runtime = w.cri.runtime.clone();

        let request = StatusRequest { verbose: true };
        let info = runtime.status(request).await?.into_inner().info;
        let folder = json(&info.into_iter().collect(), "config")?["stateDir"].clone();
        ensure!(
            Path::new(folder.as_str().unwrap_or_default()).is_dir(),
            "{folder}"
        );

        let request = PodSandboxStatusRequest {
            pod_sandbox_id: running.pod.clone(),
            verbose: true,
        };
        let info = runtime.pod_sandbox_status(request).await?.into_inner().info;
        let info = json(&info.into_iter().collect(), "info")?;
        ensure!(info["pid"].as_i64().is_some_and(|pid| pid > 1), "{info}");
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"]
            .as_array()
            .context("namespaces")?;
        let network = namespaces
            .iter()
            .find(|n| n["type"] == "network")
            .context("network")?;
        ensure!(
            Path::new(network["path"].as_str().unwrap_or_default()).exists(),
            "{network}"
        );

        let change = UpdateContainerResourcesRequest {
            container_id: running.container.clone(),
            linux: Some(LinuxContainerResources {
                memory_limit_in_bytes: 96 << 20,
                ..Default::default()
            }),
            ..Default::default()
        };
        runtime.update_container_resources(change).await?;
        let request = ContainerStatusRequest {
            container_id: running.container.clone(),
            verbose: true,
        };
        let info = runtime.container_status(request).await?.into_inner().info;
        let info = json(&info.into_iter().collect(), "info")?;
        let pid = info["pid"].as_i64().context("pid")?;
        ensure!(Path::new(&format!("/proc/{pid}")).exists(), "{pid}");
        ensure!(info["sandboxID"] == running.pod.as_str(), "{info}");
        let spec = &info["runtimeSpec"];
        ensure!(
            spec["process"]["args"].is_array() && spec["linux"]["cgroupsPath"].is_string(),
            "{spec}"
        );
        ensure!(
            spec["linux"]["resources"]["memory"]["limit"] == 96 << 20,
            "as it was changed: {spec}"
        );
        ensure!(
            spec["linux"]["resources"]["devices"].is_array(),
            "the rest stays: {spec}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_image_they_hold_its_configuration() {
    world::test(async |w| {
        let image = w.busybox().await?;
        let request = ImageStatusRequest {
            image: Some(cri::spec(&image)),
            verbose: true,
        };
        let info = w
            .cri
            .images
            .clone()
            .image_status(request)
            .await?
            .into_inner()
            .info;
        let info = json(&info.into_iter().collect(), "info")?;
        ensure!(info["imageSpec"]["rootfs"].is_object(), "{info}");
        Ok(())
    })
    .await;
}
