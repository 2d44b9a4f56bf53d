//! Kernel settings of a pod (sysctl(8)): those that have a value for each namespace.

use std::collections::BTreeMap;

use super::{SpecError, user_namespace};
use crate::{
    config::RuntimeConfig,
    proto::{NamespaceMode as Mode, NamespaceOption},
};

const PORT_START: &str = "net.ipv4.ip_unprivileged_port_start";
const PING_RANGE: &str = "net.ipv4.ping_group_range";
/// The highest group that the kernel takes in a range.
const LAST_GROUP: u32 = 2_147_483_647;

/// Only settings of namespaces that the pod has for itself.
pub(super) fn validate(
    sysctls: &BTreeMap<String, String>,
    options: &NamespaceOption,
) -> Result<(), SpecError> {
    const FIELD: &str = "sysctls";
    for (name, value) in sysctls {
        let dotted = dotted(name);
        if value.contains(['\0', '\n']) {
            return Err(SpecError::invalid(FIELD, name, "its value isn't one line"));
        }
        // Each part becomes a part of a path under /proc/sys.
        let part = |part: &str| !part.is_empty() && part != "/" && part != "//";
        if !dotted.split('.').all(part) || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(SpecError::invalid(FIELD, name, "not the name of a setting"));
        }
        let mode = if dotted.starts_with("net.") {
            options.network()
        } else if is_ipc(&dotted) {
            options.ipc()
        } else {
            return Err(SpecError::invalid(
                FIELD,
                name,
                "has no value of its own in a pod",
            ));
        };
        if mode == Mode::Node {
            return Err(SpecError::invalid(
                FIELD,
                name,
                "is the host's, whose namespace the pod uses",
            ));
        }
    }
    Ok(())
}

/// The pod's settings, with those that pods have unless they say otherwise.
pub(super) fn with_defaults(
    asked: &BTreeMap<String, String>,
    options: &NamespaceOption,
    settings: &RuntimeConfig,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // On the host's network they are the host's.
    if options.network() != Mode::Node {
        if settings.unprivileged_ports {
            all.insert(PORT_START.to_owned(), "0".to_owned());
        }
        if settings.unprivileged_ping {
            all.insert(PING_RANGE.to_owned(), all_groups(options));
        }
    }
    all.extend(asked.iter().map(|(name, value)| (dotted(name), value.clone())));
    all
}

/// Every group that the pod has, as it sees them itself.
fn all_groups(options: &NamespaceOption) -> String {
    let mapped = user_namespace(options).and_then(|userns| userns.gids.first());
    let last = mapped.map_or(LAST_GROUP, |gids| gids.length.saturating_sub(1).min(LAST_GROUP));
    format!("0 {last}")
}

/// ipc_namespaces(7).
fn is_ipc(name: &str) -> bool {
    let kernel = name.strip_prefix("kernel.").unwrap_or_default();
    name.starts_with("fs.mqueue.")
        || kernel == "sem"
        || ["shm", "msg"]
            .iter()
            .any(|beginning| kernel.starts_with(beginning) && !kernel.contains('.'))
}

/// `net/ipv4/conf/eth0.100/forwarding` is `net.ipv4.conf.eth0/100.forwarding`: the first separator tells which is which.
fn dotted(name: &str) -> String {
    if name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('/'))
    {
        let swap = |c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        };
        return name.chars().map(swap).collect();
    }
    name.to_owned()
}
