//! Devices: nodes under /dev and the device cgroup.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType as Type};

use super::{DeviceKind, HostDevice, SpecError, SpecInput, binds, user::Identity};
use crate::proto;

/// What every container may use: null, zero, full, random, urandom, tty, console, ptmx, and terminals of its own devpts.
const USUAL: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Device nodes and rules.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    /// The last rule that fits counts.
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

/// A container's devices: the config's, or for privileged ones every device of the host besides.
pub(super) fn devices(
    input: &SpecInput<'_>,
    user: &Identity,
    privileged: bool,
) -> Result<Devices, SpecError> {
    let all = privileged && !input.settings.privileged_without_host_devices;
    let mut devices = Devices {
        nodes: Vec::new(),
        rules: vec![rule(all, None, None, None, "rwm")],
    };
    if all {
        devices.nodes.extend(
            input
                .host
                .all_devices
                .iter()
                .map(|device| node(&device.below, device)),
        );
    } else {
        // Making a node gives no access to the device.
        devices
            .rules
            .extend([Type::C, Type::B].map(|kind| rule(true, Some(kind), None, None, "m")));
        let usual = USUAL.map(|(major, minor)| rule(true, Some(Type::C), Some(major), minor, "rwm"));
        devices.rules.extend(usual);
    }
    for config in &input.config.devices {
        add(input, config, user, &mut devices)?;
    }
    if all {
        // Everything is allowed already; a rule for one device could only be taken for less.
        devices.rules.truncate(1);
    }
    Ok(devices)
}

fn add(
    input: &SpecInput<'_>,
    config: &proto::Device,
    user: &Identity,
    devices: &mut Devices,
) -> Result<(), SpecError> {
    const FIELD: &str = "devices.host_path";
    if !config.host_path.starts_with('/') || config.host_path.contains('\0') {
        return Err(SpecError::invalid(
            FIELD,
            &config.host_path,
            "expected an absolute path",
        ));
    }
    let path = binds::destination(&config.container_path).map_err(|_| {
        SpecError::invalid(
            "devices.container_path",
            &config.container_path,
            "expected an absolute path",
        )
    })?;
    let access = permissions(&config.permissions)?;
    let found = input
        .host
        .devices
        .get(&config.host_path)
        .filter(|found| !found.is_empty());
    for device in
        found.ok_or_else(|| SpecError::invalid(FIELD, &config.host_path, "no device of the host"))?
    {
        let below = device.below.as_os_str();
        let path = if below.is_empty() {
            path.clone()
        } else {
            path.join(below)
        };
        let mut node = node(&path, device);
        if input.settings.device_ownership_from_security_context {
            node.set_uid(Some(user.uid)).set_gid(Some(user.gid));
        }
        devices.nodes.retain(|other| other.path() != &path);
        devices.nodes.push(node);
        devices.rules.push(rule(
            true,
            Some(kind(device)),
            Some(device.major),
            Some(device.minor),
            &access,
        ));
    }
    Ok(())
}

/// The letters in the kernel's order; all of them if none is given.
fn permissions(text: &str) -> Result<String, SpecError> {
    if text.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(SpecError::invalid(
            "devices.permissions",
            text,
            "expected letters of rwm",
        ));
    }
    Ok("rwm"
        .chars()
        .filter(|letter| text.is_empty() || text.contains(*letter))
        .collect())
}

fn kind(device: &HostDevice) -> Type {
    match device.kind {
        DeviceKind::Block => Type::B,
        DeviceKind::Char => Type::C,
    }
}

fn node(path: &std::path::Path, device: &HostDevice) -> LinuxDevice {
    let mut node = LinuxDevice::default();
    node.set_path(path.to_owned())
        .set_typ(kind(device))
        .set_major(device.major)
        .set_minor(device.minor)
        .set_file_mode(Some(device.mode))
        .set_uid(Some(device.uid))
        .set_gid(Some(device.gid));
    node
}

fn rule(
    allow: bool,
    kind: Option<Type>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(kind.unwrap_or(Type::A)))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_letters_of_rwm() {
        for (text, want) in [("", "rwm"), ("r", "r"), ("mw", "wm"), ("rwm", "rwm"), ("rr", "r")] {
            assert_eq!(permissions(text).unwrap(), want);
        }
        assert!(permissions("rx").is_err());
        assert!(permissions("R").is_err());
    }
}
