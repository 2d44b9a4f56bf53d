//! Containers: their records, and the steps of their life.

mod create;
mod exec;
mod finish;
mod image_volumes;
pub(crate) mod mount_points;
mod origin;
mod record;
mod rootfs;
mod seccomp;
mod start;
mod state;
mod stop;
mod teardown;
mod update;
mod volumes;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use oci_spec::runtime::Process;
use tokio::sync::watch;

pub use create::create;
pub(crate) use create::create_from;
pub(crate) use image_volumes::container_of;
pub(crate) use origin::FromCheckpoint;
pub use record::{ContainerRecord, ExitRecord, unique_name};
pub use seccomp::DefaultFilters;
pub use start::start;
pub use state::ContainerState;
pub(crate) use stop::kill_by_cgroup;
pub use stop::{kill, stop};
pub(crate) use teardown::remove_tree;
pub use teardown::{remove, undo_create};
pub use update::{update, update_limits};

use crate::core::Core;
use crate::events;
use crate::nri::Announced;
use crate::proto::ContainerEventType;
use crate::stats::Meter;
use crate::store::{Cell, Indexed};

/// A container that this daemon knows.
#[derive(Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The sandbox that it belongs to.
    pub pod_id: String,
    /// What is remembered of it.
    pub cell: Cell<ContainerRecord>,
    /// Held by whoever creates, starts or removes it; never by a reader, nor by a stop.
    pub ops: tokio::sync::Mutex<()>,
    /// What it has used, from one question to the next.
    pub meter: Meter,
    /// Whether plugins have been told of it.
    pub announced: Announced,
    exited: watch::Sender<bool>,
    stopping: Mutex<Option<stop::Stopping>>,
    process: OnceLock<Arc<Process>>,
    starting: Mutex<Starting>,
}

/// A start's own answer decides how an end that is reported meanwhile is to be read: a command that could not be
/// executed, and one that was and ended at once, look alike.
#[derive(Debug, Default)]
enum Starting {
    /// No start is under way.
    #[default]
    No,
    /// One is, and this is the end that was reported since.
    Yes(Option<ExitRecord>),
}

impl Indexed for Container {
    fn owner(&self) -> Option<&str> {
        Some(&self.pod_id)
    }
}

impl Container {
    /// A container around its record.
    pub fn new(cell: Cell<ContainerRecord>) -> Arc<Self> {
        let record = cell.get();
        Arc::new(Self {
            id: record.id.clone(),
            pod_id: record.pod_id.clone(),
            announced: if record.state == ContainerState::Creating {
                Announced::default()
            } else {
                Announced::before()
            },
            exited: watch::Sender::new(record.state == ContainerState::Exited),
            cell,
            ops: tokio::sync::Mutex::default(),
            meter: Meter::default(),
            stopping: Mutex::default(),
            process: OnceLock::new(),
            starting: Mutex::default(),
        })
    }

    /// Its state now.
    pub fn state(&self) -> ContainerState {
        self.cell.get().state
    }

    /// Whether clients may see it.
    pub fn visible(&self) -> bool {
        self.state() != ContainerState::Creating
    }

    /// Its end has come, in this way. The first such word counts.
    pub fn note_exit(&self, core: &Core, exit: ExitRecord) {
        let mut is_news = false;
        self.cell.note(|record| {
            if record.state.transition(ContainerState::Exited) {
                is_news = true;
                if record.started_at == 0 {
                    record.started_at = exit.finished_at;
                }
                record.exit = Some(exit);
            }
        });
        self.meter.group.close();
        if is_news {
            events::of_container(core, ContainerEventType::ContainerStoppedEvent, self);
            core.nri.container_ended(&self.id);
        }
        self.exited.send_replace(true);
    }

    /// The monitor reports its end.
    pub fn exit_reported(&self, core: &Core, exit: ExitRecord) {
        if let Starting::Yes(reported) = &mut *self.starting.lock().unwrap_or_else(PoisonError::into_inner) {
            *reported = Some(exit);
        } else {
            self.note_exit(core, exit);
        }
    }

    fn begin_start(&self) {
        *self.starting.lock().unwrap_or_else(PoisonError::into_inner) = Starting::Yes(None);
    }

    /// The end that was reported since [`Container::begin_start`].
    fn end_start(&self) -> Option<ExitRecord> {
        match std::mem::take(&mut *self.starting.lock().unwrap_or_else(PoisonError::into_inner)) {
            Starting::No => None,
            Starting::Yes(reported) => reported,
        }
    }

    /// Waits until its end has been recorded.
    pub async fn wait_exit(&self) {
        let mut exited = self.exited.subscribe();
        // The sender lives in `self`, so this can't fail.
        drop(exited.wait_for(|exited| *exited).await);
    }
}
