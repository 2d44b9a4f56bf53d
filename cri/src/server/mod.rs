//! The gRPC server: one file an RPC (or a pair that belongs together), one line each in the service tables.

mod attach;
mod checkpoint_container;
mod checkpoint_pod;
mod container_stats;
mod container_status;
mod create_container;
mod deadline;
mod exec;
mod exec_sync;
mod filter;
mod get_container_events;
mod image_fs_info;
mod image_service;
mod image_status;
mod list_containers;
mod list_images;
mod list_pod_sandbox;
mod log;
mod pod_sandbox_metrics;
mod pod_sandbox_stats;
mod pod_sandbox_status;
mod port_forward;
mod pull_image;
mod remove_container;
mod remove_image;
mod remove_pod_sandbox;
mod reopen_container_log;
mod restore_pod;
mod run_pod_sandbox;
mod runtime_config;
mod runtime_service;
mod start_container;
mod status;
mod stop_container;
mod stop_pod_sandbox;
mod stream_lists;
mod update_container_resources;
mod update_pod_sandbox_resources;
mod version;

use std::sync::Arc;

use crate::core::Core;

pub use deadline::Deadline;
pub use log::RpcLog;

/// Both CRI services.
#[derive(Clone)]
pub struct Service {
    core: Arc<Core>,
}

impl Service {
    /// Services that work on `core`.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}
