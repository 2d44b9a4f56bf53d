//! A plugin joins: it is given all pods and containers that there are, and hears of everything that happens from then on.
//!
//! The plugin holds its own turn while it is given what there is, so that events wait for it and for nobody else. What was
//! announced to others before it came and is still being made is waited for, object by object: until then nobody can say
//! whether it will be there. The wait is bounded, and holds up no creation: what an object in the making has to tell goes
//! only to those who were there before (`events.rs`).

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::plugin::{Known, Phase, Plugin, Turn};
use super::{NriError, sources, ttrpc, updates};
use crate::container::{Container, ContainerState};
use crate::core::Core;
use crate::pod::{Pod, PodState};
use crate::proto::nri;
use crate::task::blocking;

/// Room in a message for what is around the list.
const ROOM: usize = 64 << 10;

/// Lets a configured plugin in.
///
/// # Errors
/// [`NriError::Join`]; nobody tells it anything then.
pub(super) async fn join(core: &Arc<Core>, plugin: &Arc<Plugin>) -> Result<(), NriError> {
    let config = &core.nri.config;
    let limit = config
        .plugin_registration_timeout
        .max(config.plugin_request_timeout);
    let wanted = {
        let mut turn = plugin
            .turn()
            .await
            .ok_or_else(|| NriError::join(&plugin.name, "the connection was closed"))?;
        core.nri.registry.add(plugin);
        match synchronize(core, plugin, &mut turn, limit).await {
            Ok(wanted) => wanted,
            Err(error) => {
                core.nri.registry.remove(plugin);
                plugin.close();
                return Err(error);
            }
        }
    };
    leave_when_gone(core, plugin);
    updates::of_others(core, &plugin.name, wanted, &[]).await;
    Ok(())
}

fn leave_when_gone(core: &Arc<Core>, plugin: &Arc<Plugin>) {
    let (core, plugin) = (Arc::clone(core), Arc::clone(plugin));
    tokio::spawn(async move {
        plugin.wait_gone().await;
        core.nri.registry.remove(&plugin);
        tracing::info!(plugin = plugin.name, "an NRI plugin is gone");
    });
}

async fn synchronize(
    core: &Arc<Core>,
    plugin: &Arc<Plugin>,
    turn: &mut Turn<'_>,
    limit: Duration,
) -> Result<Vec<nri::ContainerUpdate>, NriError> {
    let gathered = tokio::time::timeout(limit, gather(core, plugin)).await;
    let (pods, containers, known) = gathered.map_err(|_| {
        NriError::join(
            &plugin.name,
            "what is being created takes too long; connect again",
        )
    })??;
    *turn.known = known;
    let mut wanted = Vec::new();
    let mut parts = parts(pods, containers).into_iter().peekable();
    while let Some(mut part) = parts.next() {
        part.more = parts.peek().is_some();
        let answer = turn
            .synchronize(&part, limit)
            .await
            .map_err(|error| NriError::join(&plugin.name, format!("Synchronize: {error}")))?;
        if part.more && (!answer.more || !answer.update.is_empty()) {
            let reason = "it does not take what there is in several parts";
            return Err(NriError::join(&plugin.name, reason));
        }
        wanted = answer.update;
    }
    Ok(wanted)
}

type Gathered = (Vec<nri::PodSandbox>, Vec<nri::Container>, Known);

/// All that the plugin will not hear of by the event of its creation.
async fn gather(core: &Arc<Core>, plugin: &Arc<Plugin>) -> Result<Gathered, NriError> {
    let mut pods = Vec::new();
    for pod in core.pods.all() {
        if pod.announced.is_before(plugin) && is_made(core, &pod).await {
            pods.push(pod);
        }
    }
    let mut containers = Vec::new();
    for container in core.containers.all() {
        if container.announced.is_before(plugin) && is_container_made(core, &container).await {
            containers.push(container);
        }
    }
    let at = Arc::clone(core);
    blocking("gathering what there is", move || {
        Ok::<_, crate::error::Error>(describe(&at, &pods, &containers))
    })
    .await
    .map_err(|error| NriError::join(&plugin.name, error.to_string()))
}

async fn is_made(core: &Core, pod: &Pod) -> bool {
    if pod.state() == PodState::Creating {
        drop(pod.ops.lock().await);
    }
    pod.visible() && core.pods.get(&pod.id).is_some()
}

async fn is_container_made(core: &Core, container: &Container) -> bool {
    if container.state() == ContainerState::Creating {
        drop(container.ops.lock().await);
    }
    container.visible() && core.containers.get(&container.id).is_some()
}

/// What has ended is no longer told of. Blocking.
fn describe(core: &Core, pods: &[Arc<Pod>], containers: &[Arc<Container>]) -> Gathered {
    let mut known = Known::new();
    let mut told_pods = Vec::new();
    for pod in pods {
        let record = pod.cell.get();
        let phase = if record.state == PodState::Ready {
            Phase::Alive
        } else {
            Phase::Stopped
        };
        known.insert(pod.id.clone(), phase);
        told_pods.push(sources::pod(core, &record));
    }
    let mut told = Vec::new();
    for container in containers {
        let record = container.cell.get();
        if matches!(record.state, ContainerState::Created | ContainerState::Running) {
            known.insert(container.id.clone(), Phase::Alive);
            told.push(sources::container_now(core, &record));
        }
    }
    (told_pods, told, known)
}

/// As few messages as hold it all. What alone is longer than a message is left out, and logged.
fn parts(pods: Vec<nri::PodSandbox>, containers: Vec<nri::Container>) -> Vec<nri::SynchronizeRequest> {
    let longest = ttrpc::LONGEST - ROOM;
    let mut parts = vec![nri::SynchronizeRequest::default()];
    let mut size = 0;
    let mut fits = |parts: &mut Vec<nri::SynchronizeRequest>, id: &str, length: usize| {
        if length > longest {
            tracing::warn!(id, "too long to be told to an NRI plugin");
            return false;
        }
        if size + length > longest {
            parts.push(nri::SynchronizeRequest::default());
            size = 0;
        }
        size += length;
        true
    };
    // A tag and a length stand before each.
    for pod in pods {
        let length = pod.encoded_len() + 8;
        if fits(&mut parts, &pod.id, length)
            && let Some(part) = parts.last_mut()
        {
            part.pods.push(pod);
        }
    }
    for container in containers {
        let length = container.encoded_len() + 8;
        if fits(&mut parts, &container.id, length)
            && let Some(part) = parts.last_mut()
        {
            part.containers.push(container);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_told_in_parts_that_fit() {
        let pod = |id: usize, size: usize| nri::PodSandbox {
            id: id.to_string(),
            name: "x".repeat(size),
            ..nri::PodSandbox::default()
        };
        assert_eq!(parts(Vec::new(), Vec::new()).len(), 1, "nothing is told, too");
        let pods = (0..30)
            .map(|id| pod(id, 1 << 20))
            .chain([pod(99, 5 << 20)])
            .collect();
        let container = nri::Container {
            id: "c".into(),
            ..nri::Container::default()
        };
        let parts = parts(pods, vec![container]);
        assert_eq!(parts.len(), 10, "three of a MiB fit into one of four");
        assert!(
            parts
                .iter()
                .all(|part| part.encoded_len() <= ttrpc::LONGEST - ROOM)
        );
        let ids: Vec<_> = parts.iter().flat_map(|p| &p.pods).map(|p| p.id.clone()).collect();
        assert_eq!(ids, (0..30).map(|id: usize| id.to_string()).collect::<Vec<_>>());
        assert_eq!(parts[9].containers.len(), 1);
    }
}
