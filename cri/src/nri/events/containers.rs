//! Events of containers that are there.

use std::sync::Arc;

use super::{Telling, audience};
use crate::container::Container;
use crate::core::Core;
use crate::error::Result;
use crate::nri::adjust::Merge;
use crate::nri::convert::from_cri;
use crate::nri::plugin::Plugin;
use crate::nri::sources;
use crate::nri::updates::{self, without};
use crate::proto::LinuxContainerResources;
use crate::proto::nri::{
    self, Event, LinuxResources, PostCreateContainerRequest, PostStartContainerRequest,
    PostUpdateContainerRequest, StartContainerRequest, UpdateContainerRequest, UpdateContainerResponse,
};

/// A container, its pod, and those who are to hear of it; None where nobody is there.
async fn about(
    core: &Arc<Core>,
    container: &Container,
) -> Result<Option<(Vec<Arc<Plugin>>, nri::PodSandbox, nri::Container)>> {
    let Some(audience) = audience(core, &container.announced, container.visible()) else {
        return Ok(None);
    };
    let shown = sources::container(core, container.cell.get()).await?;
    Ok(Some((audience, sources::pod_of(core, &container.pod_id), shown)))
}

/// The three events that are told after the fact have requests of the same two fields.
macro_rules! told_after {
    ($(#[$doc:meta])* $name:ident, $event:expr, $request:ident) => {
        $(#[$doc])*
        pub(crate) async fn $name(core: &Arc<Core>, container: &Container) {
            let Ok(Some((audience, pod, shown))) = about(core, container).await else {
                return;
            };
            let request = $request {
                pod: Some(pod.clone()),
                container: Some(shown.clone()),
            };
            let telling = Telling {
                event: $event,
                id: &container.id,
                request: &request,
                pod: Some(&pod),
                container: Some(&shown),
            };
            telling
                .to_all(&audience, |known| known.contains_key(&container.id))
                .await;
        }
    };
}

told_after!(
    /// PostCreateContainer.
    post_create,
    Event::PostCreateContainer,
    PostCreateContainerRequest
);
told_after!(
    /// PostStartContainer.
    post_start,
    Event::PostStartContainer,
    PostStartContainerRequest
);
told_after!(
    /// PostUpdateContainer.
    post_update,
    Event::PostUpdateContainer,
    PostUpdateContainerRequest
);

/// StartContainer.
///
/// # Errors
/// A plugin's refusal.
pub(crate) async fn start_container(core: &Arc<Core>, container: &Container) -> Result<()> {
    let Some((audience, pod, shown)) = about(core, container).await? else {
        return Ok(());
    };
    let request = StartContainerRequest {
        pod: Some(pod.clone()),
        container: Some(shown.clone()),
    };
    let telling = Telling {
        event: Event::StartContainer,
        id: &container.id,
        request: &request,
        pod: Some(&pod),
        container: Some(&shown),
    };
    Ok(telling.strictly(&audience).await?)
}

/// UpdateContainer: what the container is to get in place of `change`; None where nobody was asked.
///
/// # Errors
/// A plugin's refusal, or a conflict between plugins.
pub(crate) async fn update_container(
    core: &Arc<Core>,
    container: &Container,
    change: &LinuxContainerResources,
) -> Result<Option<LinuxResources>> {
    let Some((audience, pod, shown)) = about(core, container).await? else {
        return Ok(None);
    };
    let asked = from_cri(change);
    let mut merge = Merge::new(shown.clone());
    let mut request = UpdateContainerRequest {
        pod: Some(pod),
        container: Some(shown),
        linux_resources: None,
    };
    for plugin in audience {
        let Some(turn) = plugin.turn().await else { continue };
        if !turn.known.contains_key(&container.id) {
            continue;
        }
        request.linux_resources = Some(merge.limits_over(&asked));
        let answer: Option<UpdateContainerResponse> = turn.ask(Event::UpdateContainer, &request).await?;
        let Some(answer) = answer else { continue };
        merge.update(&plugin.name, answer.update, false)?;
        merge.evictions.extend(answer.evict);
    }
    let limits = merge.limits_over(&asked);
    updates::refuse_classes(&limits)?;
    let others = without(merge.updates, &container.id);
    updates::of_others(core, "(all)", others, &merge.evictions).await;
    Ok(Some(limits))
}
