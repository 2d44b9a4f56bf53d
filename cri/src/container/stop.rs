//! StopContainer: the stop signal, a grace period that later callers can only shorten, then SIGKILL until it is gone.
//!
//! One task a container does the stopping, whoever asks and however often; callers wait for it. A caller that gives up
//! leaves it working. Nothing here takes the container's `ops` lock: a stop is never blocked by another call.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pintle_runtime::cgroup::Handle;
use pintle_runtime::protocol::KillScope;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Container, ContainerState, ExitRecord};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::task::blocking;

const SIGKILL: i32 = 9;
/// How often SIGKILL is sent, and how long each waits for its effect: a process in an uninterruptible sleep can need it.
const KILLS: u32 = 12;
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stopping {
    deadline: watch::Sender<Instant>,
    gave_up: watch::Receiver<bool>,
}

/// Stops a container: its stop signal, `grace` to end by itself, SIGKILL. One that doesn't run is left alone.
///
/// # Errors
/// [`Error::Unkillable`] where it survives SIGKILL for a minute.
pub async fn stop(core: &Arc<Core>, container: &Arc<Container>, grace: Duration) -> Result<()> {
    match container.state() {
        ContainerState::Creating | ContainerState::Created | ContainerState::Exited => Ok(()),
        ContainerState::Running | ContainerState::Unknown => join_stop(core, container, grace).await,
    }
}

/// Ends a container at once, also one that was never started.
///
/// # Errors
/// As [`stop`].
pub async fn kill(core: &Arc<Core>, container: &Arc<Container>) -> Result<()> {
    match container.state() {
        ContainerState::Creating | ContainerState::Exited => Ok(()),
        _ => join_stop(core, container, Duration::ZERO).await,
    }
}

/// Ends what waits for a start that will not come; its end has been recorded already.
pub(super) async fn end_init(core: &Arc<Core>, container: &Arc<Container>) {
    send(core, container, SIGKILL, KillScope::All).await;
}

async fn join_stop(core: &Arc<Core>, container: &Arc<Container>, grace: Duration) -> Result<()> {
    let mut gave_up = begin_or_hasten(core, container, Instant::now() + grace);
    tokio::select! {
        () = container.wait_exit() => Ok(()),
        // An error means that the task ended: the container exited, or its task gave up before.
        _ = gave_up.wait_for(|gave_up| *gave_up) => {
            if container.state() == ContainerState::Exited { Ok(()) } else { Err(Error::Unkillable(container.id.clone())) }
        }
    }
}

fn begin_or_hasten(core: &Arc<Core>, container: &Arc<Container>, deadline: Instant) -> watch::Receiver<bool> {
    let mut slot = container.stopping.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(under_way) = slot.as_ref().filter(|s| !*s.gave_up.borrow()) {
        under_way.deadline.send_if_modified(|current| {
            let sooner = deadline < *current;
            if sooner {
                *current = deadline;
            }
            sooner
        });
        return under_way.gave_up.clone();
    }
    let (deadline, changes) = watch::channel(deadline);
    let (give_up, gave_up) = watch::channel(false);
    *slot = Some(Stopping {
        deadline,
        gave_up: gave_up.clone(),
    });
    let (core, container) = (Arc::clone(core), Arc::clone(container));
    tokio::spawn(async move {
        let gone = drive(&core, &container, changes).await;
        give_up.send_replace(!gone);
    });
    gave_up
}

/// Does the stopping. Returns whether the container is gone.
async fn drive(core: &Arc<Core>, container: &Arc<Container>, mut deadline: watch::Receiver<Instant>) -> bool {
    if *deadline.borrow() > Instant::now() && container.state() == ContainerState::Running {
        let signal = container.cell.get().stop_signal;
        send(core, container, signal, KillScope::Init).await;
        if exits_before(container, &mut deadline).await {
            return true;
        }
    }
    for _ in 0..KILLS {
        send(core, container, SIGKILL, KillScope::All).await;
        if timeout(KILL_PATIENCE, container.wait_exit()).await.is_ok() {
            return true;
        }
    }
    tracing::warn!(
        container = container.id,
        "the container does not exit after SIGKILL"
    );
    false
}

async fn exits_before(container: &Container, deadline: &mut watch::Receiver<Instant>) -> bool {
    loop {
        let until = *deadline.borrow_and_update();
        tokio::select! {
            () = container.wait_exit() => return true,
            () = sleep_until(until) => return false,
            changed = deadline.changed() => if changed.is_err() { return false },
        }
    }
}

/// Sends a signal by the monitor; without one only SIGKILL can be sent, by the cgroup.
async fn send(core: &Arc<Core>, container: &Arc<Container>, signal: i32, scope: KillScope) {
    let monitor = core.pods.get(&container.pod_id).and_then(|pod| pod.monitor());
    if let Some(monitor) = monitor {
        match monitor.kill(&container.id, signal, scope).await {
            Err(pintle_runtime::Error::MonitorGone) => {}
            Err(error) => {
                return tracing::debug!(container = container.id, signal, %error, "signal not delivered");
            }
            Ok(()) => return,
        }
    }
    if signal == SIGKILL {
        kill_by_cgroup(core, container).await;
    }
}

/// The monitor is lost: whatever is left is in the cgroup, and nobody saw its exit status.
pub(crate) async fn kill_by_cgroup(core: &Core, container: &Arc<Container>) {
    let cgroup = container.cell.get().cgroup.clone();
    match blocking("killing a cgroup", move || Handle::new(&cgroup)?.remove()).await {
        Ok(()) => container.note_exit(
            core,
            ExitRecord::unknown(crate::time::now(), "the container's monitor was lost"),
        ),
        Err(error) => {
            tracing::warn!(container = container.id, %error, "the container's cgroup is not empty yet");
        }
    }
}
