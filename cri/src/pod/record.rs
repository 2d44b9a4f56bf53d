//! What is remembered of a pod sandbox.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::PodState;
use crate::error::{Error, Kind, Result};
use crate::proto::{NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata};
use crate::spec::UserIds;
use crate::store::Record;

/// A pod sandbox, as it lies on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The boot during which it was made: its namespaces and processes end with that boot.
    pub boot_id: String,
    /// RunPodSandbox's config, as it came, with the resources that UpdatePodSandboxResources told of since.
    pub config: PodSandboxConfig,
    /// RunPodSandbox's handler, as it came.
    pub runtime_handler: String,
    /// Where it is in its life.
    pub state: PodState,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Who made its network, written before the making begins.
    pub network: PodNetworkRecord,
    /// Its addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The cgroup under which its containers' cgroups lie, relative to the hierarchies' roots.
    pub cgroup_parent: String,
    /// The SELinux level that tells its containers from those of other pods; None without SELinux.
    #[serde(default)]
    pub selinux_level: Option<String>,
    /// What the name of its own cgroup begins with; empty for nothing.
    #[serde(default)]
    pub cgroup_prefix: String,
}

/// Who is in charge of a pod's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodNetworkRecord {
    /// Nobody: the host's network, or none was set up yet, or it was taken down.
    None,
    /// The built-in bridge.
    Builtin,
    /// CNI programs.
    Cni,
}

impl Record for PodRecord {
    fn id(&self) -> &str {
        &self.id
    }
}

impl PodRecord {
    /// The metadata; RunPodSandbox refuses a config without.
    pub fn metadata(&self) -> PodSandboxMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }

    /// The namespace options as they came, or their defaults.
    pub fn namespace_options(&self) -> NamespaceOption {
        let security = self
            .config
            .linux
            .as_ref()
            .and_then(|l| l.security_context.as_ref());
        security
            .and_then(|s| s.namespace_options.clone())
            .unwrap_or_default()
    }

    /// How the ids of its containers lie on the host.
    pub fn user_ids(&self) -> UserIds {
        UserIds::new(&self.namespace_options())
    }

    /// Whether the pod uses the network of its node.
    pub fn host_network(&self) -> bool {
        self.namespace_options().network == NamespaceMode::Node as i32
    }

    /// Moves the pod to another state.
    ///
    /// # Errors
    /// [`Error::WrongState`] where no arrow leads there.
    pub fn enter(&mut self, state: PodState) -> Result<()> {
        let before = self.state;
        if self.state.transition(state) {
            return Ok(());
        }
        Err(Error::WrongState {
            kind: Kind::Pod,
            id: self.id.clone(),
            state: before.word(),
            needed: "on its way there",
        })
    }
}

/// The name under which a pod may exist once: `name_namespace_uid_attempt`.
pub fn unique_name(metadata: &PodSandboxMetadata) -> String {
    format!(
        "{}_{}_{}_{}",
        metadata.name, metadata.namespace, metadata.uid, metadata.attempt
    )
}
