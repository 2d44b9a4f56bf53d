//! The Node Resource Interface: plugins that hear of pods and containers and may change containers before they are made.
//!
//! ```text
//! listen.rs, launch.rs   plugins that connect, and those that the daemon starts
//!   link.rs ttrpc.rs mux.rs   one socket: calls in both directions
//! join.rs                what a plugin is told first: all that there is, and nothing of it twice
//! registry.rs            who is there; plugin.rs: one of them, and what it has been told
//! events.rs              what the rest of the daemon calls: one function an event
//!   adjust/              several plugins' wishes put together; who wants what
//!   validator.rs         what an administrator forbids plugins
//!   apply/               wishes carried out on a runtime spec
//! updates.rs             limits of living containers that plugins want changed, and evictions
//! convert/               records and specs as plugins see them
//! ```
//!
//! With no plugin connected an event costs some atomic loads: no message is made and no lock taken.
//!
//! A plugin is asked one thing at a time. One that doesn't answer in time, answers nonsense or breaks off is cut off, and
//! the event goes on without it, as with other runtimes; whoever can't do without a plugin says so by
//! `nri.default_validator.required_plugins`. An error that a plugin gives in words fails the request, for RunPodSandbox,
//! UpdatePodSandboxResources, CreateContainer, StartContainer and UpdateContainerResources; of other events it is logged.

mod adjust;
mod apply;
mod convert;
mod error;
mod events;
mod join;
mod launch;
mod link;
mod listen;
mod mux;
mod names;
mod plugin;
mod registry;
mod sources;
mod ttrpc;
mod updates;
mod validator;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use apply::Rest;
pub use error::NriError;
pub(crate) use events::{
    create_container, post_create, post_start, post_update, post_update_pod, remove_container, remove_pod,
    run_pod, start_container, stop_pod, update_container, update_pod,
};
pub use link::CallError;
pub use registry::Announced;
pub(crate) use updates::to_cri;

use oci_spec::runtime::LinuxResources;

use crate::config::NriConfig;
use crate::core::Core;
use crate::proto::nri::LinuxResources as Wanted;
use registry::Registry;

/// How long plugins may take, all together, to hear that the daemon ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The daemon's plugins.
#[derive(Debug)]
pub struct Nri {
    config: NriConfig,
    registry: Registry,
    ends: events::Ends,
    /// Whether the socket is this daemon's.
    listens: AtomicBool,
}

impl Nri {
    /// No plugins yet.
    pub fn new(config: &NriConfig) -> Self {
        Self {
            config: config.clone(),
            registry: Registry::default(),
            ends: events::Ends::default(),
            listens: AtomicBool::new(false),
        }
    }

    /// A container has ended: plugins are told in the background.
    pub(crate) fn container_ended(&self, id: &str) {
        if self.registry.now().is_some() {
            self.ends.push(id);
        }
    }
}

/// Lays what plugins want over limits; what they don't say stays.
///
/// # Errors
/// [`NriError::Adjustment`].
pub(crate) fn lay_over(limits: &mut LinuxResources, wanted: &Wanted) -> Result<(), NriError> {
    apply::overlay(limits, wanted)
}

/// Starts the installed plugins, waits until each has joined or failed to, and then listens for others.
/// Whatever can't be had is logged: a node without its plugins is better than none, and whoever thinks otherwise has
/// `nri.default_validator.required_plugins`.
pub async fn start(core: &Arc<Core>) {
    if core.nri.config.disable {
        return;
    }
    events::follow_ends(core);
    launch::installed(core).await;
    if !core.nri.config.disable_connections {
        listen::listen(core);
    }
}

/// Tells all plugins that the daemon ends.
pub async fn stop(core: &Core) {
    if core.nri.listens.load(Ordering::Relaxed) {
        drop(std::fs::remove_file(&core.nri.config.socket_path));
    }
    let Some(set) = core.nri.registry.now() else {
        return;
    };
    let mut told = tokio::task::JoinSet::new();
    for plugin in &set.plugins {
        let plugin = Arc::clone(plugin);
        told.spawn(async move { plugin.shut_down(LAST_WORDS).await });
    }
    while told.join_next().await.is_some() {}
}
