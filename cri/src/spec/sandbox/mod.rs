//! What a sandbox itself needs, and what of its config is refused.

mod dns;
mod ports;
mod sysctls;
mod userns;

use std::{collections::BTreeMap, path::Path};

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType};

pub use dns::resolv_conf;
pub use userns::UserIds;

pub use super::selinux::free_level;
pub(super) use userns::{user_namespace, validate_user_namespace};

use super::{
    NodeFacts, SpecError,
    namespaces::{id_mappings, of_sandbox},
};
use crate::{
    config::RuntimeConfig,
    proto::{NamespaceMode as Mode, NamespaceOption, PodSandboxConfig},
};

/// Longest host name that the kernel takes (sethostname(2)), in bytes.
const HOSTNAME_MAX: usize = 64;
/// Length of the host name that is made from an id.
const SHORT_ID: usize = 12;

/// How a sandbox is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxPlan {
    /// Namespaces that are made for it and pinned: user first, then network, UTS, IPC.
    pub namespaces: Vec<LinuxNamespaceType>,
    /// Whether its containers share a PID namespace, which needs a first process of its own.
    pub shared_pid: bool,
    /// Set in its UTS namespace; None with the host's.
    pub hostname: Option<String>,
    /// Kernel settings of its namespaces, by dotted name; a `/` in it stands for a dot in the kernel's name.
    pub sysctls: BTreeMap<String, String>,
    /// Its user namespace's ids; empty without one.
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// As `uid_mappings`, for groups.
    pub gid_mappings: Vec<LinuxIdMapping>,
}

/// Checks a sandbox's config as far as that can be done without looking at the node.
///
/// # Errors
/// Each names the field and the value.
pub fn validate(config: &PodSandboxConfig) -> Result<(), SpecError> {
    let metadata = config.metadata.as_ref().ok_or(SpecError::Missing {
        field: "config.metadata",
    })?;
    if metadata.name.is_empty() {
        return Err(SpecError::Missing {
            field: "config.metadata.name",
        });
    }
    let log_directory = &config.log_directory;
    if !log_directory.is_empty() && (!Path::new(log_directory).is_absolute() || log_directory.contains('\0'))
    {
        return Err(SpecError::invalid(
            "config.log_directory",
            log_directory,
            "expected an absolute path",
        ));
    }
    validate_hostname(&config.hostname)?;
    let options = of_sandbox(config);
    validate_modes(&options)?;
    if let Some(linux) = &config.linux {
        if linux.cgroup_parent.contains('\0') || linux.cgroup_parent.split('/').any(|part| part == "..") {
            return Err(SpecError::invalid(
                "cgroup_parent",
                &linux.cgroup_parent,
                "not the path of a cgroup",
            ));
        }
        sysctls::validate(&linux.sysctls, &options)?;
    }
    ports::validate(&config.port_mappings)?;
    config.dns_config.as_ref().map_or(Ok(()), dns::validate)
}

/// How to set up the sandbox `id`.
///
/// # Errors
/// As [`validate`]; also what this node can't do.
pub fn plan(
    config: &PodSandboxConfig,
    id: &str,
    node: &NodeFacts,
    settings: &RuntimeConfig,
) -> Result<SandboxPlan, SpecError> {
    validate(config)?;
    let options = of_sandbox(config);
    let userns = user_namespace(&options);
    if userns.is_some() && !node.user_namespaces {
        let (field, value) = ("userns_options.mode", "POD".to_owned());
        let reason = "this node has no user namespaces, or can't idmap mounts";
        return Err(SpecError::Unsupported { field, value, reason });
    }
    let own_network = options.network() != Mode::Node;
    let mut namespaces = Vec::new();
    namespaces.extend(userns.map(|_| LinuxNamespaceType::User));
    if own_network {
        namespaces.extend([LinuxNamespaceType::Network, LinuxNamespaceType::Uts]);
    }
    if options.ipc() != Mode::Node {
        namespaces.push(LinuxNamespaceType::Ipc);
    }
    let asked = config
        .linux
        .as_ref()
        .map(|linux| linux.sysctls.clone())
        .unwrap_or_default();
    Ok(SandboxPlan {
        namespaces,
        shared_pid: options.pid() == Mode::Pod,
        hostname: own_network.then(|| hostname(config, id, &node.hostname)),
        sysctls: sysctls::with_defaults(&asked, &options, settings),
        uid_mappings: id_mappings(userns.map(|u| u.uids.as_slice()).unwrap_or_default()),
        gid_mappings: id_mappings(userns.map(|u| u.gids.as_slice()).unwrap_or_default()),
    })
}

/// The host name that the pod's processes see: the node's on its network, else the config's, else from the id.
pub fn hostname(config: &PodSandboxConfig, id: &str, node_name: &str) -> String {
    if of_sandbox(config).network() == Mode::Node {
        node_name.to_owned()
    } else if config.hostname.is_empty() {
        id.chars().take(SHORT_ID).collect()
    } else {
        config.hostname.clone()
    }
}

fn validate_hostname(hostname: &str) -> Result<(), SpecError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if hostname.len() > HOSTNAME_MAX {
        let reason = format!("longer than {HOSTNAME_MAX} bytes");
        return Err(SpecError::invalid("config.hostname", hostname, reason));
    }
    if !hostname.chars().all(fine) {
        return Err(SpecError::invalid(
            "config.hostname",
            hostname,
            "expected letters, digits, '-' and '.'",
        ));
    }
    Ok(())
}

/// Which modes a sandbox may have. User namespaces go neither with the host's processes nor with its IPC: their
/// /proc and /dev/mqueue can't be mounted from within.
fn validate_modes(options: &NamespaceOption) -> Result<(), SpecError> {
    for (field, value, allowed) in [
        (
            "namespace_options.network",
            options.network,
            &[Mode::Pod, Mode::Node][..],
        ),
        ("namespace_options.ipc", options.ipc, &[Mode::Pod, Mode::Node]),
        (
            "namespace_options.pid",
            options.pid,
            &[Mode::Pod, Mode::Container, Mode::Node],
        ),
    ] {
        let mode = Mode::try_from(value).map_err(|_| SpecError::invalid(field, value, "no such mode"))?;
        if !allowed.contains(&mode) {
            let names: Vec<_> = allowed.iter().map(Mode::as_str_name).collect();
            let reason = format!("a sandbox can have {}", names.join(", "));
            return Err(SpecError::invalid(field, mode.as_str_name(), reason));
        }
    }
    if let Some(userns) = &options.userns_options {
        validate_user_namespace(userns)?;
    }
    if user_namespace(options).is_some() {
        for (field, mode) in [
            ("namespace_options.pid", options.pid()),
            ("namespace_options.ipc", options.ipc()),
        ] {
            if mode == Mode::Node {
                return Err(SpecError::invalid(
                    field,
                    "NODE",
                    "can't be had with a user namespace",
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
