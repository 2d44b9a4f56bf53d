//! Events of pods.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Telling, audience, begin, end, stop_container};
use crate::core::Core;
use crate::error::Result;
use crate::nri::convert::from_cri;
use crate::nri::sources;
use crate::pod::Pod;
use crate::proto::UpdatePodSandboxResourcesRequest;
use crate::proto::nri::{
    Empty, Event, PostUpdatePodSandboxRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StopPodSandboxRequest, UpdatePodSandboxRequest,
};

/// RunPodSandbox.
///
/// # Errors
/// A plugin's refusal.
pub(crate) async fn run_pod(core: &Core, pod: &Pod, ips: &[IpAddr]) -> Result<()> {
    let Some(set) = core.nri.registry.announce(&pod.announced) else {
        return Ok(());
    };
    let mut message = sources::pod(core, &pod.cell.get());
    // Its record has them once it is ready.
    message.ips = ips.iter().map(ToString::to_string).collect();
    let request = RunPodSandboxRequest {
        pod: Some(message.clone()),
    };
    for plugin in &set.plugins {
        if let Some(mut turn) = plugin.turn().await
            && begin(&mut turn.known, &pod.id)
        {
            turn.tell(Event::RunPodSandbox, &request, Some(&message), None)
                .await?;
        }
    }
    Ok(())
}

/// UpdatePodSandbox.
///
/// # Errors
/// A plugin's refusal.
pub(crate) async fn update_pod(
    core: &Core,
    pod: &Pod,
    change: &UpdatePodSandboxResourcesRequest,
) -> Result<()> {
    let Some(audience) = audience(core, &pod.announced, pod.visible()) else {
        return Ok(());
    };
    let request = UpdatePodSandboxRequest {
        pod: Some(sources::pod(core, &pod.cell.get())),
        overhead_linux_resources: change.overhead.as_ref().map(from_cri),
        linux_resources: change.resources.as_ref().map(from_cri),
    };
    for plugin in audience {
        if let Some(turn) = plugin.turn().await
            && turn.known.contains_key(&pod.id)
        {
            let _: Option<Empty> = turn.ask(Event::UpdatePodSandbox, &request).await?;
        }
    }
    Ok(())
}

/// PostUpdatePodSandbox.
pub(crate) async fn post_update_pod(core: &Core, pod: &Pod) {
    let Some(audience) = audience(core, &pod.announced, pod.visible()) else {
        return;
    };
    let message = sources::pod(core, &pod.cell.get());
    let request = PostUpdatePodSandboxRequest {
        pod: Some(message.clone()),
    };
    let telling = Telling {
        event: Event::PostUpdatePodSandbox,
        id: &pod.id,
        request: &request,
        pod: Some(&message),
        container: None,
    };
    telling
        .to_all(&audience, |known| known.contains_key(&pod.id))
        .await;
}

/// StopPodSandbox, after the ends of its containers.
pub(crate) async fn stop_pod(core: &Arc<Core>, pod: &Pod) {
    let Some(audience) = audience(core, &pod.announced, pod.visible()) else {
        return;
    };
    for container in core.containers_of(&pod.id) {
        stop_container(core, &container).await;
    }
    let message = sources::pod(core, &pod.cell.get());
    let request = StopPodSandboxRequest {
        pod: Some(message.clone()),
    };
    let telling = Telling {
        event: Event::StopPodSandbox,
        id: &pod.id,
        request: &request,
        pod: Some(&message),
        container: None,
    };
    telling.to_all(&audience, |known| end(known, &pod.id)).await;
}

/// RemovePodSandbox.
pub(crate) async fn remove_pod(core: &Core, pod: &Pod) {
    let Some(audience) = audience(core, &pod.announced, pod.visible()) else {
        return;
    };
    let message = sources::pod(core, &pod.cell.get());
    let request = RemovePodSandboxRequest {
        pod: Some(message.clone()),
    };
    let telling = Telling {
        event: Event::RemovePodSandbox,
        id: &pod.id,
        request: &request,
        pod: Some(&message),
        container: None,
    };
    telling
        .to_all(&audience, |known| known.remove(&pod.id).is_some())
        .await;
}
