//! What the rest of the daemon calls: one function an event.
//!
//! | event | when | what the plugins say |
//! | --- | --- | --- |
//! | RunPodSandbox | all of it stands; nobody sees it yet | no: it is undone |
//! | UpdatePodSandbox, PostUpdatePodSandbox | before and after the change is noted | before: no |
//! | StopPodSandbox | its containers have ended, its network is still there | – |
//! | RemovePodSandbox | before its files go | – |
//! | CreateContainer | its spec is made; nobody sees it yet | adjustments, updates, evictions; no: it is undone |
//! | PostCreateContainer | it is there | – |
//! | StartContainer | before its process goes on | no: it stays as it is |
//! | PostStartContainer | its process runs | – |
//! | UpdateContainer, PostUpdateContainer | before and after limits change | other limits, updates, evictions; no |
//! | StopContainer | it has ended, by itself or not | updates |
//! | RemoveContainer | before its files go | – |
//!
//! Whatever an object in the making has to tell goes only to those who were told of its making: a plugin that joins
//! meanwhile waits for its end.

mod containers;
mod create;
mod ends;
mod pods;

use std::sync::Arc;

pub(crate) use containers::{post_create, post_start, post_update, start_container, update_container};
pub(crate) use create::create_container;
pub(super) use ends::{Ends, follow_ends};
pub(crate) use ends::{remove_container, stop_container};
pub(crate) use pods::{post_update_pod, remove_pod, run_pod, stop_pod, update_pod};

use super::plugin::{Known, Phase, Plugin, Turn};
use super::{Announced, NriError};
use crate::core::Core;
use crate::proto::nri::{self, Event};

/// The plugins that are to hear of what happens to an object; None where there are none.
fn audience(core: &Core, announced: &Announced, visible: bool) -> Option<Vec<Arc<Plugin>>> {
    let set = core.nri.registry.now()?;
    let plugins = set.plugins.iter().cloned();
    Some(
        plugins
            .filter(|plugin| visible || !announced.is_before(plugin))
            .collect(),
    )
}

/// What a plugin learns that it is told of for the first time; false where it has heard of it.
fn begin(known: &mut Known, id: &str) -> bool {
    match known.get(id) {
        Some(_) => false,
        None => known.insert(id.to_owned(), Phase::Alive).is_none(),
    }
}

/// An end is told once, and only to those who know the object.
fn end(known: &mut Known, id: &str) -> bool {
    let phase = known.get_mut(id);
    phase.is_some_and(|phase| std::mem::replace(phase, Phase::Stopped) == Phase::Alive)
}

/// An event about a pod, or about a container and its pod.
struct Telling<'a, Q> {
    event: Event,
    id: &'a str,
    request: &'a Q,
    pod: Option<&'a nri::PodSandbox>,
    container: Option<&'a nri::Container>,
}

impl<Q: prost::Message> Telling<'_, Q> {
    /// Tells all who know the object, up to the first that says no.
    async fn strictly(&self, audience: &[Arc<Plugin>]) -> Result<(), NriError> {
        for plugin in audience {
            if let Some(turn) = plugin.turn().await
                && turn.known.contains_key(self.id)
            {
                self.to(&turn).await?;
            }
        }
        Ok(())
    }

    /// Tells all whom `admits` lets hear of it. Errors are logged.
    async fn to_all(&self, audience: &[Arc<Plugin>], admits: impl Fn(&mut Known) -> bool) {
        for plugin in audience {
            if let Some(mut turn) = plugin.turn().await
                && admits(&mut turn.known)
                && let Err(error) = self.to(&turn).await
            {
                tracing::warn!(%error, "an NRI plugin failed an event");
            }
        }
    }

    async fn to(&self, turn: &Turn<'_>) -> Result<(), NriError> {
        turn.tell(self.event, self.request, self.pod, self.container)
            .await
    }
}
