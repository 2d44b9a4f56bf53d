//! What is remembered of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pintle_runtime::protocol::ForeignRuntime;
use serde::{Deserialize, Serialize};

use super::ContainerState;
use crate::error::{Error, Kind, Result};
use crate::proto::{
    ContainerConfig, ContainerMetadata, LinuxContainerResources, LinuxContainerUser, PodSandboxMetadata,
};
use crate::store::Record;

/// A container, as it lies on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The sandbox that it belongs to.
    pub pod_id: String,
    /// The name that it holds.
    pub name: String,
    /// CreateContainer's config, as it came.
    pub config: ContainerConfig,
    /// The local image id.
    pub image_id: String,
    /// `repository@digest` where one is known, else the image id.
    pub image_ref: String,
    /// A tag of the image where one is known, else what the config said.
    pub image_name: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Nanoseconds since the epoch, as all times here.
    pub created_at: i64,
    /// When its process was started; 0 before.
    pub started_at: i64,
    /// How it ended.
    pub exit: Option<ExitRecord>,
    /// Its first process, on the host; 0 before there is one.
    pub pid: i32,
    /// Its cgroup, relative to the hierarchies' roots, or `slice:prefix:name` for one of systemd's.
    pub cgroup: String,
    /// Its log file; empty for none.
    pub log_path: String,
    /// Whom its first process runs as.
    pub user: LinuxContainerUser,
    /// The signal of StopContainer, by number.
    pub stop_signal: i32,
    /// What makes it, if that is another runtime.
    #[serde(default)]
    pub runtime: Option<ForeignRuntime>,
    /// The compiled seccomp filter of all its processes.
    pub seccomp_filter: Option<PathBuf>,
    /// The ids of the images that it mounts, by the names that its config has for them.
    #[serde(default)]
    pub image_volumes: BTreeMap<String, String>,
    /// The limits in force.
    pub resources: LinuxContainerResources,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit status, or 128 and the signal.
    pub code: i32,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `Unknown`.
    pub reason: String,
    /// The runtime's words, where it has any.
    pub message: String,
}

impl ExitRecord {
    /// The end of a process that ran.
    pub fn of_process(exit: &pintle_runtime::protocol::Exit) -> Self {
        let reason = match (exit.oom_killed, exit.code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        Self {
            code: exit.code,
            finished_at: exit.finished_at,
            reason: reason.to_owned(),
            message: String::new(),
        }
    }

    /// A process that could not be started, and why.
    pub fn start_error(now: i64, message: String) -> Self {
        Self {
            code: 128,
            finished_at: now,
            reason: "StartError".to_owned(),
            message,
        }
    }

    /// An end that nobody saw.
    pub fn unknown(now: i64, message: &str) -> Self {
        Self {
            code: 255,
            finished_at: now,
            reason: "Unknown".to_owned(),
            message: message.to_owned(),
        }
    }
}

impl Record for ContainerRecord {
    fn id(&self) -> &str {
        &self.id
    }
}

impl ContainerRecord {
    /// The metadata; CreateContainer refuses a config without.
    pub fn metadata(&self) -> ContainerMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }

    /// Its cgroup's path below the root of each hierarchy, whoever makes it; empty before it is known.
    pub fn cgroup_path(&self) -> String {
        let handle = pintle_runtime::cgroup::Handle::new(&self.cgroup);
        handle.map_or_else(
            |_| String::new(),
            |handle| format!("/{}", handle.path().display()),
        )
    }

    /// Moves the container to another state.
    ///
    /// # Errors
    /// [`Error::WrongState`] where no arrow leads there.
    pub fn enter(&mut self, state: ContainerState, needed: &'static str) -> Result<()> {
        let before = self.state;
        if self.state.transition(state) {
            return Ok(());
        }
        Err(Error::WrongState {
            kind: Kind::Container,
            id: self.id.clone(),
            state: before.word(),
            needed,
        })
    }
}

/// The name under which a container may exist once: `name_pod_namespace_uid_attempt`.
pub fn unique_name(container: &ContainerMetadata, pod: &PodSandboxMetadata) -> String {
    format!(
        "{}_{}_{}_{}_{}",
        container.name, pod.name, pod.namespace, pod.uid, container.attempt
    )
}
