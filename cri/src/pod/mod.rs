//! Pod sandboxes: their records, and the steps of their life.

mod events;
mod files;
mod record;
mod run;
mod setup;
mod state;
mod teardown;

use std::sync::{Arc, PoisonError, RwLock};

use pintle_runtime::client::MonitorClient;

pub use events::follow;
pub use record::{PodNetworkRecord, PodRecord, unique_name};
pub use run::{InFlight, run};
pub use state::PodState;
pub use teardown::{remove, stop};

use crate::core::Core;
use crate::error::{Error, Kind, Result};
use crate::nri::Announced;
use crate::proto::ContainerEventType;
use crate::stats::Group;
use crate::store::{Cell, Indexed};

/// A pod sandbox that this daemon knows.
#[derive(Debug)]
pub struct Pod {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What is remembered of it.
    pub cell: Cell<PodRecord>,
    /// Held by whoever sets it up or takes it down; never by a reader.
    pub ops: tokio::sync::Mutex<()>,
    /// Its cgroup, as it is looked at.
    pub group: Group,
    /// Whether plugins have been told of it.
    pub announced: Announced,
    monitor: RwLock<Option<MonitorClient>>,
}

impl Indexed for Pod {}

impl Pod {
    /// A pod around its record, with no monitor yet.
    pub fn new(cell: Cell<PodRecord>) -> Arc<Self> {
        let record = cell.get();
        Arc::new(Self {
            id: record.id.clone(),
            announced: if record.state == PodState::Creating {
                Announced::default()
            } else {
                Announced::before()
            },
            cell,
            ops: tokio::sync::Mutex::default(),
            group: Group::default(),
            monitor: RwLock::default(),
        })
    }

    /// Its state now.
    pub fn state(&self) -> PodState {
        self.cell.get().state
    }

    /// Whether clients may see it.
    pub fn visible(&self) -> bool {
        self.state() != PodState::Creating
    }

    /// Its monitor, while there is one.
    pub fn monitor(&self) -> Option<MonitorClient> {
        self.monitor
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its monitor is this one now, or none.
    pub fn set_monitor(&self, monitor: Option<MonitorClient>) {
        *self.monitor.write().unwrap_or_else(PoisonError::into_inner) = monitor;
    }

    /// Its monitor.
    ///
    /// # Errors
    /// [`Error::WrongState`] where it is gone, and the pod with it.
    pub fn live_monitor(&self) -> Result<MonitorClient> {
        self.monitor().ok_or_else(|| self.wrong_state("ready"))
    }

    /// Fails unless the sandbox is ready.
    ///
    /// # Errors
    /// [`Error::WrongState`].
    pub fn must_be_ready(&self) -> Result<()> {
        if self.state() == PodState::Ready {
            Ok(())
        } else {
            Err(self.wrong_state("ready"))
        }
    }

    /// It is not ready any more, or will not become so.
    pub fn no_longer_ready(&self, core: &Core) {
        let mut is_news = false;
        self.cell.note(|record| {
            is_news = record.state == PodState::Ready;
            record.state.transition(PodState::NotReady);
        });
        self.group.close();
        if is_news {
            crate::events::of_pod(core, ContainerEventType::ContainerStoppedEvent, self);
        }
    }

    fn wrong_state(&self, needed: &'static str) -> Error {
        Error::WrongState {
            kind: Kind::Pod,
            id: self.id.clone(),
            state: self.state().word(),
            needed,
        }
    }
}
