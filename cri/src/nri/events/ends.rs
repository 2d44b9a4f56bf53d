//! How containers end, and go.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use super::{audience, end};
use crate::container::Container;
use crate::core::Core;
use crate::nri::adjust::Merge;
use crate::nri::plugin::{Phase, Turn};
use crate::nri::{NriError, names, sources, updates};
use crate::proto::nri::{self, Event, RemoveContainerRequest, StopContainerRequest, StopContainerResponse};

/// Ids of containers that have ended, on their way to the plugins.
#[derive(Debug, Default)]
pub(in crate::nri) struct Ends(OnceLock<mpsc::UnboundedSender<String>>);

impl Ends {
    /// A container has ended. There are no more of them than there are containers.
    pub(in crate::nri) fn push(&self, id: &str) {
        if let Some(ends) = self.0.get() {
            // Nobody reads any more when the daemon ends.
            drop(ends.send(id.to_owned()));
        }
    }
}

/// Tells plugins of containers that end by themselves, in the background.
pub(in crate::nri) fn follow_ends(core: &Arc<Core>) {
    let (sender, mut ends) = mpsc::unbounded_channel::<String>();
    if core.nri.ends.0.set(sender).is_err() {
        return;
    }
    let core = Arc::clone(core);
    tokio::spawn(async move {
        while let Some(id) = ends.recv().await {
            if let Some(container) = core.containers.get(&id) {
                let core = Arc::clone(&core);
                tokio::spawn(async move { stop_container(&core, &container).await });
            }
        }
    });
}

/// StopContainer. Told once, however often and by whomever this is called.
pub(crate) async fn stop_container(core: &Arc<Core>, container: &Container) {
    let Some(audience) = audience(core, &container.announced, container.visible()) else {
        return;
    };
    let Ok(shown) = sources::container(core, container.cell.get()).await else {
        return;
    };
    let request = StopContainerRequest {
        pod: Some(sources::pod_of(core, &container.pod_id)),
        container: Some(shown.clone()),
    };
    let mut merge = Merge::new(shown);
    for plugin in audience {
        if let Some(mut turn) = plugin.turn().await
            && end(&mut turn.known, &container.id)
        {
            ask_stop(&turn, &plugin.name, &request, &mut merge).await;
        }
    }
    let wanted = updates::without(merge.updates, &container.id);
    updates::of_others(core, "(all)", wanted, &[]).await;
}

/// RemoveContainer, and StopContainer before it for those who haven't heard.
pub(crate) async fn remove_container(core: &Arc<Core>, container: &Container) {
    let Some(audience) = audience(core, &container.announced, container.visible()) else {
        return;
    };
    let Ok(shown) = sources::container(core, container.cell.get()).await else {
        return;
    };
    let pod = sources::pod_of(core, &container.pod_id);
    let stop = StopContainerRequest {
        pod: Some(pod.clone()),
        container: Some(shown.clone()),
    };
    let request = RemoveContainerRequest {
        pod: Some(pod.clone()),
        container: Some(shown.clone()),
    };
    let mut merge = Merge::new(shown.clone());
    for plugin in audience {
        let Some(mut turn) = plugin.turn().await else {
            continue;
        };
        let Some(phase) = turn.known.remove(&container.id) else {
            continue;
        };
        if phase == Phase::Alive {
            ask_stop(&turn, &plugin.name, &stop, &mut merge).await;
        }
        let told = turn
            .tell(Event::RemoveContainer, &request, Some(&pod), Some(&shown))
            .await;
        log(&told, Event::RemoveContainer);
    }
    let wanted = updates::without(merge.updates, &container.id);
    updates::of_others(core, "(all)", wanted, &[]).await;
}

async fn ask_stop(turn: &Turn<'_>, plugin: &str, request: &StopContainerRequest, merge: &mut Merge) {
    let answer: Result<Option<StopContainerResponse>, NriError> =
        turn.ask(Event::StopContainer, request).await;
    let taken = answer.and_then(|answer| {
        let wanted: Vec<nri::ContainerUpdate> = answer.map(|answer| answer.update).unwrap_or_default();
        merge.update(plugin, wanted, false)
    });
    log(&taken, Event::StopContainer);
}

fn log(told: &Result<(), NriError>, event: Event) {
    if let Err(error) = told {
        tracing::warn!(event = names::event(event), %error, "an NRI plugin failed an event");
    }
}
