//! Looks up what the translation has to know of the machine and of a config's paths. All of it blocks.

mod devices;
mod mounts;
mod node;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use node::node_facts;

use super::{HostFacts, NodeFacts};
use crate::proto::{ContainerConfig, security_profile::ProfileType};

/// Names and modes of the loaded profiles, a line for each.
const APPARMOR_PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// Something could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// A system call, with its verb and path.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A file of the kernel's doesn't say what it should.
    #[error("{}: no {what} in it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The systemd driver is asked for where nobody can serve it.
    #[error("cgroup_driver = \"systemd\": systemd does not run on this host")]
    NoSystemd,
    /// A device of the config is none.
    #[error("devices.host_path {path:?}: neither a device nor a folder")]
    NoDevice {
        /// The path.
        path: String,
    },
}

/// What a container's config names on the host. Missing sources of mounts are made, as folders.
///
/// Image mounts, volumes and the target of a PID namespace are left to the caller.
///
/// # Errors
/// A device or a mount's source can't be had.
pub fn host_facts(config: &ContainerConfig, node: &NodeFacts) -> Result<HostFacts, GatherError> {
    let profiles = node.apparmor && names_apparmor_profile(config);
    let privileged = super::security_context(config).privileged;
    Ok(HostFacts {
        mounts: mounts::sources(&config.mounts)?,
        devices: devices::of_config(&config.devices)?,
        all_devices: if privileged {
            devices::of_host()?
        } else {
            Vec::new()
        },
        apparmor_profiles: if profiles {
            apparmor_profiles()?
        } else {
            Vec::new()
        },
        ..HostFacts::default()
    })
}

fn names_apparmor_profile(config: &ContainerConfig) -> bool {
    let security = super::security_context(config);
    #[expect(deprecated, reason = "older clients send it")]
    let old = security.apparmor_profile.starts_with("localhost/");
    old || security
        .apparmor
        .as_ref()
        .is_some_and(|p| p.profile_type() == ProfileType::Localhost)
}

/// Without AppArmor there are none.
pub(crate) fn apparmor_profiles() -> Result<Vec<String>, GatherError> {
    match std::fs::read_to_string(APPARMOR_PROFILES) {
        Ok(text) => Ok(text.lines().map(|line| profile_name(line).to_owned()).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).context("read", APPARMOR_PROFILES),
    }
}

/// `name (mode)`; the name may hold blanks and brackets.
fn profile_name(line: &str) -> &str {
    line.rsplit_once(" (").map_or(line, |(name, _)| name)
}

/// Gives an I/O error its verb and path.
trait Context<T> {
    fn context(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T, GatherError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T, GatherError> {
        self.map_err(|source| GatherError::Io {
            verb,
            path: path.as_ref().to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::node;

    #[test]
    fn names_of_profiles_may_hold_anything() {
        assert_eq!(profile_name("docker-default (enforce)"), "docker-default");
        assert_eq!(
            profile_name("/usr/bin/x (deleted) y (complain)"),
            "/usr/bin/x (deleted) y"
        );
        assert_eq!(profile_name("odd"), "odd");
    }

    #[test]
    fn a_plain_config_needs_nothing_of_the_host() {
        assert_eq!(
            host_facts(&ContainerConfig::default(), &node()).unwrap(),
            HostFacts::default()
        );
    }
}
