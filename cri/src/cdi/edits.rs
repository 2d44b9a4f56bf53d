//! What a device changes in a runtime spec.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    Hook, HookBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxIntelRdtBuilder, LinuxNetDevice, Mount, MountBuilder, Spec,
};

use super::file::{self, DeviceNode, Edits};

type Outcome = Result<(), String>;

/// Makes the edits. They are checked by now; what is left to fail are devices that the host hasn't.
pub(super) fn apply(edits: &Edits, spec: &mut Spec) -> Outcome {
    add_env(&edits.env, spec);
    for node in &edits.device_nodes {
        add_device(node, spec).map_err(|reason| format!("device node {}: {reason}", node.path))?;
    }
    for device in &edits.net_devices {
        let linux = spec.linux_mut().get_or_insert_default();
        let mut given = LinuxNetDevice::default();
        given.set_name(Some(device.name.clone()));
        let all = linux.net_devices_mut().get_or_insert_default();
        all.insert(device.host_interface_name.clone(), given);
    }
    for mount in &edits.mounts {
        add_mount(mount, spec)?;
    }
    for hook in &edits.hooks {
        add_hook(hook, spec)?;
    }
    if let Some(rdt) = &edits.intel_rdt {
        add_rdt(rdt, spec)?;
    }
    let groups = edits.additional_gids.iter().filter(|gid| **gid > 0);
    for gid in groups {
        let process = spec.process_mut().get_or_insert_default();
        let mut user = process.user().clone();
        let mut all = user.additional_gids().clone().unwrap_or_default();
        if !all.contains(gid) {
            all.push(*gid);
        }
        user.set_additional_gids(Some(all));
        process.set_user(user);
    }
    Ok(())
}

/// A variable that is there already gets the device's value.
fn add_env(env: &[String], spec: &mut Spec) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let process = spec.process_mut().get_or_insert_default();
    let all = process.env_mut().get_or_insert_default();
    for entry in env {
        match all.iter_mut().find(|other| name(other) == name(entry)) {
            Some(other) => other.clone_from(entry),
            None => all.push(entry.clone()),
        }
    }
}

fn add_device(node: &DeviceNode, spec: &mut Spec) -> Outcome {
    let device = describe(node, spec)?;
    let access = match node.permissions.as_deref() {
        None | Some("") => "rwm",
        Some("none") => "",
        Some(some) => some,
    };
    let linux = spec.linux_mut().get_or_insert_default();
    if matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C) && !access.is_empty() {
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(device.typ())
            .major(device.major())
            .minor(device.minor())
            .access(access)
            .build()
            .map_err(|e| e.to_string())?;
        let resources = linux.resources_mut().get_or_insert_default();
        resources.devices_mut().get_or_insert_default().push(rule);
    }
    let all = linux.devices_mut().get_or_insert_default();
    all.retain(|other| other.path() != device.path());
    all.push(device);
    Ok(())
}

/// What the description leaves out is as the host has it; the owner, as the container's process is.
fn describe(node: &DeviceNode, spec: &Spec) -> Result<LinuxDevice, String> {
    let given = node.kind.as_deref().filter(|kind| !kind.is_empty());
    let (kind, numbers) = match (given, node.major) {
        (Some("p"), _) => (LinuxDeviceType::P, (0, 0)),
        (Some(kind), Some(major)) => (kind_of(kind), (major, node.minor.unwrap_or(0))),
        (given, _) => {
            let path = node.host_path.as_deref().unwrap_or(&node.path);
            let (kind, numbers) = on_host(path)?;
            if given.is_some_and(|given| kind_of(given) != kind) {
                return Err(format!("{path} is of another type"));
            }
            (
                kind,
                (node.major.unwrap_or(numbers.0), node.minor.unwrap_or(numbers.1)),
            )
        }
    };
    let user = spec.process().as_ref().map(|process| process.user().clone());
    let own = |id: u32| Some(id).filter(|id| *id > 0);
    let uid = node.uid.or_else(|| own(user.as_ref()?.uid()));
    let gid = node.gid.or_else(|| own(user.as_ref()?.gid()));
    let mut device = LinuxDeviceBuilder::default()
        .path(PathBuf::from(&node.path))
        .typ(kind)
        .major(numbers.0)
        .minor(numbers.1)
        .build()
        .map_err(|e| e.to_string())?;
    device.set_file_mode(node.file_mode).set_uid(uid).set_gid(gid);
    Ok(device)
}

fn kind_of(letter: &str) -> LinuxDeviceType {
    match letter {
        "b" => LinuxDeviceType::B,
        "p" => LinuxDeviceType::P,
        _ => LinuxDeviceType::C,
    }
}

fn on_host(path: &str) -> Result<(LinuxDeviceType, (i64, i64)), String> {
    let about = fs::metadata(path).map_err(|e| format!("stat {path}: {e}"))?;
    let kind = match about.file_type() {
        kind if kind.is_block_device() => LinuxDeviceType::B,
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_fifo() => LinuxDeviceType::P,
        _ => return Err(format!("{path} is no device")),
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Ok((kind, (number(major(about.rdev())), number(minor(about.rdev())))))
}

/// In the place of what was mounted there before.
fn add_mount(mount: &file::Mount, spec: &mut Spec) -> Outcome {
    let mut made: Mount = MountBuilder::default()
        .destination(PathBuf::from(&mount.container_path))
        .source(PathBuf::from(&mount.host_path))
        .options(mount.options.clone())
        .build()
        .map_err(|e| e.to_string())?;
    let kind = mount.kind.clone().filter(|kind| !kind.is_empty());
    // Nothing else than a bind is meant where nothing is said.
    let is_plain = kind.is_none()
        && !mount
            .options
            .iter()
            .any(|o| matches!(o.as_str(), "bind" | "rbind"));
    made.set_typ(if is_plain { Some("bind".to_owned()) } else { kind });
    let all = spec.mounts_mut().get_or_insert_default();
    all.retain(|other| other.destination() != made.destination());
    all.push(made);
    // A mount below another one comes after it.
    all.sort_by_key(|mount| mount.destination().components().count());
    Ok(())
}

fn add_hook(hook: &file::Hook, spec: &mut Spec) -> Outcome {
    let mut made: Hook = HookBuilder::default()
        .path(PathBuf::from(&hook.path))
        .build()
        .map_err(|e| e.to_string())?;
    made.set_args(Some(hook.args.clone()).filter(|args| !args.is_empty()))
        .set_env(Some(hook.env.clone()).filter(|env| !env.is_empty()))
        .set_timeout(hook.timeout.filter(|timeout| *timeout > 0));
    crate::spec::hooks::add(spec, &hook.hook_name, made)
}

fn add_rdt(rdt: &file::IntelRdt, spec: &mut Spec) -> Outcome {
    let mut made = LinuxIntelRdtBuilder::default()
        .build()
        .map_err(|e| e.to_string())?;
    made.set_clos_id(rdt.clos_id.clone())
        .set_l3_cache_schema(rdt.l3_cache_schema.clone())
        .set_mem_bw_schema(rdt.mem_bw_schema.clone());
    if rdt.schemata.is_some() || rdt.enable_monitoring.is_some() {
        made.set_schemata(rdt.schemata.clone())
            .set_enable_monitoring(rdt.enable_monitoring);
    }
    spec.linux_mut().get_or_insert_default().set_intel_rdt(Some(made));
    Ok(())
}
