//! StartContainer: the waiting init goes on to exec.

use std::sync::Arc;

use pintle_runtime::error::Kind;

use super::{Container, ContainerState, ExitRecord, stop};
use crate::core::Core;
use crate::error::{self, Error, Result};
use crate::events;
use crate::nri;
use crate::proto::ContainerEventType;

/// Starts a created container. Returns after its process has exec'd.
///
/// # Errors
/// [`Error::WrongState`] unless the container is created and its sandbox ready. Where the command can't be executed the
/// container is exited afterwards: code 128, reason `StartError`, with the error as its message. So it is where a plugin
/// refuses, as with containerd: kubelet makes another one in either case, and this one's init would wait for ever.
pub async fn start(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    go_on(core, container).await?;
    nri::post_start(core, container).await;
    Ok(())
}

async fn go_on(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    let _one_at_a_time = container.ops.lock().await;
    let state = container.state();
    if state != ContainerState::Created {
        return Err(Error::WrongState {
            kind: error::Kind::Container,
            id: container.id.clone(),
            state: state.word(),
            needed: "created",
        });
    }
    let pod = core.pod(&container.pod_id)?;
    pod.must_be_ready()?;
    let monitor = pod.live_monitor()?;
    if let Err(refusal) = nri::start_container(core, container).await {
        let exit = ExitRecord::start_error(crate::time::now(), refusal.to_string());
        container.note_exit(core, exit);
        stop::end_init(core, container).await;
        return Err(refusal);
    }
    container.begin_start();
    let started = monitor.start(&container.id).await;
    if let Ok(started_at) = started {
        container.cell.note(|record| {
            record.started_at = started_at;
            record.state.transition(ContainerState::Running);
        });
        // Before its end can be told.
        events::of_container(core, ContainerEventType::ContainerStartedEvent, container);
    }
    let ended = container.end_start();
    match started {
        Ok(_) => {
            ended.into_iter().for_each(|exit| container.note_exit(core, exit));
            Ok(())
        }
        // The container is as it was where the monitor refused before it tried, as for a log that can't be opened.
        Err(error) if error.kind() == Kind::Exec || ended.is_some() => {
            let error = Error::from(error);
            container.note_exit(
                core,
                ExitRecord::start_error(crate::time::now(), error.to_string()),
            );
            Err(error)
        }
        Err(error) => Err(error.into()),
    }
}
