//! StartContainer: the waiting init goes on to exec.

use std::sync::Arc;

use super::{Container, ContainerState, ExitRecord};
use crate::core::Core;
use crate::error::{Error, Kind, Result};

/// Starts a created container. Returns after its process has exec'd.
///
/// # Errors
/// [`Error::WrongState`] unless the container is created and its sandbox ready. Where the command can't be executed the
/// container is exited afterwards: code 128, reason `StartError`, with the error as its message.
pub async fn start(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    let _one_at_a_time = container.ops.lock().await;
    let state = container.state();
    if state != ContainerState::Created {
        return Err(Error::WrongState {
            kind: Kind::Container,
            id: container.id.clone(),
            state: state.word(),
            needed: "created",
        });
    }
    let pod = core.pod(&container.pod_id)?;
    pod.must_be_ready()?;
    match pod.live_monitor()?.start(&container.id).await {
        Ok(started_at) => {
            container.cell.note(|record| {
                record.started_at = started_at;
                // A short command may have ended, and its exit been recorded, before this answer arrived.
                record.state.transition(ContainerState::Running);
            });
            Ok(())
        }
        Err(error) => {
            let error = Error::from(error);
            container.note_exit(ExitRecord::start_error(crate::time::now(), error.to_string()));
            Err(error)
        }
    }
}
