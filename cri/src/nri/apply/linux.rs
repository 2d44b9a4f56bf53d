//! What is particular to Linux: devices, namespaces, limits, and how the process is scheduled.

use std::path::{Component, Path};

use oci_spec::runtime as oci;

use super::limits::{device_type, overlay};
use super::{absolute, merge_map};
use crate::nri::NriError;
use crate::nri::adjust::owners::unmarked;
use crate::nri::convert;
use crate::proto::nri::{
    IoPrioClass, LinuxContainerAdjustment, LinuxDevice, LinuxIoPriority, LinuxMemoryPolicy, LinuxNamespace,
    LinuxNetDevice, LinuxRdt, LinuxScheduler, LinuxSchedulerFlag, LinuxSchedulerPolicy, LinuxSeccomp,
    LinuxSyscall, MpolFlag, MpolMode,
};
use crate::spec::ContainerSpec;

pub(super) fn apply(
    made: &mut ContainerSpec,
    id: &str,
    wanted: LinuxContainerAdjustment,
) -> Result<(), NriError> {
    of_process(&mut made.spec, &wanted)?;
    if !wanted.cgroups_path.is_empty() {
        made.cgroup = cgroup(&wanted.cgroups_path, id)?;
    }
    let cgroup = made.cgroup.clone();
    let linux = made.spec.linux_mut().get_or_insert_default();
    if let Some(policy) = &wanted.seccomp_policy {
        // Goes before the profile that the container's configuration names.
        linux.set_seccomp(Some(seccomp(policy)?));
    }
    if !wanted.cgroups_path.is_empty() {
        linux.set_cgroups_path(Some(cgroup.into()));
    }
    for device in &wanted.devices {
        add_device(linux, device)?;
    }
    for ns in &wanted.namespaces {
        set_namespace(linux, ns)?;
    }
    if !wanted.sysctl.is_empty() {
        merge_map(
            "sysctl",
            wanted.sysctl,
            linux.sysctl_mut().get_or_insert_default(),
        )?;
    }
    for (host, device) in wanted.net_devices {
        net_device(linux, &host, device)?;
    }
    if let Some(policy) = &wanted.memory_policy {
        linux.set_memory_policy(Some(memory_policy(policy)?));
    }
    if let Some(limits) = &wanted.resources {
        overlay(linux.resources_mut().get_or_insert_default(), limits)?;
        // An empty class takes the container out of all.
        if let Some(class) = &limits.rdt_class {
            let mut rdt = oci::LinuxIntelRdt::default();
            rdt.set_clos_id(Some(class.value.clone()));
            linux.set_intel_rdt(Some(rdt).filter(|_| !class.value.is_empty()));
        }
    }
    if let Some(wanted) = wanted.rdt {
        rdt(linux, wanted);
    }
    Ok(())
}

fn of_process(spec: &mut oci::Spec, wanted: &LinuxContainerAdjustment) -> Result<(), NriError> {
    let process = spec.process_mut().get_or_insert_default();
    if let Some(score) = wanted.oom_score_adj {
        let fits = i32::try_from(score.value)
            .ok()
            .filter(|score| (-1000..=1000).contains(score));
        let score = fits.ok_or_else(|| {
            NriError::adjustment(
                "oom_score_adj",
                format!("{} is not within -1000 to 1000", score.value),
            )
        })?;
        process.set_oom_score_adj(Some(score));
    }
    if let Some(priority) = &wanted.io_priority {
        process.set_io_priority(io_priority(priority)?);
    }
    if let Some(wanted) = &wanted.scheduler {
        process.set_scheduler(scheduler(wanted)?);
    }
    Ok(())
}

/// A cgroup of the container's own: whoever removes the container removes it, so that it can't be anybody else's.
fn cgroup(path: &str, id: &str) -> Result<String, NriError> {
    let mut parts = Path::new(path).components();
    let plain = parts.all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let own = Path::new(path)
        .file_name()
        .is_some_and(|name| name.to_string_lossy().contains(id));
    if path.starts_with('/') && plain && own && !path.contains(['\0', ':']) {
        return Ok(path.trim_end_matches('/').to_owned());
    }
    Err(NriError::adjustment(
        "cgroups_path",
        format!("{path:?} is not an absolute path whose last part holds the container's id"),
    ))
}

/// A device, and the right to use it as its mode says.
fn add_device(linux: &mut oci::Linux, device: &LinuxDevice) -> Result<(), NriError> {
    let (path, is_removal) = unmarked(&device.path);
    let path = absolute("devices.path", path)?;
    let all = linux.devices_mut().get_or_insert_default();
    all.retain(|other| *other.path() != path);
    if is_removal {
        return Ok(());
    }
    let kind = device_type(&device.r#type)?;
    if kind == oci::LinuxDeviceType::A {
        return Err(NriError::adjustment(
            "devices.type",
            format!("{:?} has none", device.path),
        ));
    }
    let mode = device.file_mode.map(|mode| mode.value & 0o7777);
    let mut made = oci::LinuxDevice::default();
    made.set_path(path)
        .set_typ(kind)
        .set_major(device.major)
        .set_minor(device.minor)
        .set_file_mode(mode)
        .set_uid(device.uid.map(|v| v.value))
        .set_gid(device.gid.map(|v| v.value));
    all.push(made);
    if kind == oci::LinuxDeviceType::P {
        return Ok(());
    }
    let mut rule = oci::LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(Some(device.major))
        .set_minor(Some(device.minor))
        .set_access(Some("rwm".to_owned()));
    let limits = linux.resources_mut().get_or_insert_default();
    limits.devices_mut().get_or_insert_default().push(rule);
    Ok(())
}

fn set_namespace(linux: &mut oci::Linux, wanted: &LinuxNamespace) -> Result<(), NriError> {
    let (name, is_removal) = unmarked(&wanted.r#type);
    let kind = convert::namespace(name)
        .ok_or_else(|| NriError::adjustment("namespaces.type", format!("there is no namespace {name:?}")))?;
    let mut all = linux.namespaces().clone().unwrap_or_default();
    all.retain(|other| other.typ() != kind);
    if !is_removal {
        let path = Some(wanted.path.as_str()).filter(|path| !path.is_empty());
        let mut made = oci::LinuxNamespace::default();
        made.set_typ(kind)
            .set_path(path.map(|path| absolute("namespaces.path", path)).transpose()?);
        all.push(made);
    }
    linux.set_namespaces(Some(all));
    Ok(())
}

fn net_device(linux: &mut oci::Linux, host: &str, device: LinuxNetDevice) -> Result<(), NriError> {
    let (name, is_removal) = unmarked(host);
    if name.is_empty() || name.len() > 15 || name.contains(['/', '\0']) {
        return Err(NriError::adjustment(
            "net_devices",
            format!("{name:?} is no interface's name"),
        ));
    }
    let all = linux.net_devices_mut().get_or_insert_default();
    if is_removal {
        all.remove(name);
    } else {
        let mut made = oci::LinuxNetDevice::default();
        made.set_name(Some(device.name).filter(|name| !name.is_empty()));
        all.insert(name.to_owned(), made);
    }
    Ok(())
}

fn rdt(linux: &mut oci::Linux, wanted: LinuxRdt) {
    if wanted.remove {
        linux.set_intel_rdt(None);
    }
    if wanted.clos_id.is_none() && wanted.schemata.is_none() && wanted.enable_monitoring.is_none() {
        return;
    }
    let rdt = linux.intel_rdt_mut().get_or_insert_default();
    if let Some(class) = wanted.clos_id {
        rdt.set_clos_id(Some(class.value));
    }
    if let Some(schemata) = wanted.schemata {
        rdt.set_schemata(Some(schemata.value));
    }
    if let Some(monitoring) = wanted.enable_monitoring {
        rdt.set_enable_monitoring(Some(monitoring.value));
    }
}

fn io_priority(wanted: &LinuxIoPriority) -> Result<Option<oci::LinuxIOPriority>, NriError> {
    if wanted.class() == IoPrioClass::IoprioClassNone {
        return Ok(None);
    }
    let class = wanted.class().as_str_name();
    if !(0..=7).contains(&wanted.priority) {
        let reason = format!("{} is not within 0 to 7", wanted.priority);
        return Err(NriError::adjustment("io_priority", reason));
    }
    oci::LinuxIOPriorityBuilder::default()
        .class(word::<oci::IOPriorityClass>("io_priority", class)?)
        .priority(wanted.priority)
        .build()
        .map(Some)
        .map_err(|error| NriError::adjustment("io_priority", error.to_string()))
}

fn scheduler(wanted: &LinuxScheduler) -> Result<Option<oci::Scheduler>, NriError> {
    if wanted.policy() == LinuxSchedulerPolicy::SchedNone {
        return Ok(None);
    }
    let mut flags = Vec::new();
    for flag in wanted.flags() {
        flags.push(match flag {
            LinuxSchedulerFlag::SchedFlagResetOnFork => oci::LinuxSchedulerFlag::SchedResetOnFork,
            other => word("scheduler.flags", other.as_str_name())?,
        });
    }
    let some = |value: u64| Some(value).filter(|value| *value != 0);
    let mut made = oci::Scheduler::default();
    made.set_policy(word("scheduler.policy", wanted.policy().as_str_name())?)
        .set_nice(Some(wanted.nice).filter(|nice| *nice != 0))
        .set_priority(Some(wanted.priority).filter(|priority| *priority != 0))
        .set_flags(Some(flags).filter(|flags| !flags.is_empty()))
        .set_runtime(some(wanted.runtime))
        .set_deadline(some(wanted.deadline))
        .set_period(some(wanted.period));
    Ok(Some(made))
}

fn memory_policy(wanted: &LinuxMemoryPolicy) -> Result<oci::LinuxMemoryPolicy, NriError> {
    let mode = MpolMode::try_from(wanted.mode)
        .map_err(|_| NriError::adjustment("memory_policy", format!("there is no mode {}", wanted.mode)))?;
    let flags: Result<Vec<_>, _> = wanted
        .flags()
        .map(|flag: MpolFlag| word("memory_policy.flags", flag.as_str_name()))
        .collect();
    let mut made = oci::LinuxMemoryPolicy::default();
    made.set_mode(word("memory_policy.mode", mode.as_str_name())?)
        .set_nodes(Some(wanted.nodes.clone()).filter(|nodes| !nodes.is_empty()))
        .set_flags(Some(flags?).filter(|flags| !flags.is_empty()));
    Ok(made)
}

/// The policy in the terms of the runtime specification.
fn seccomp(policy: &LinuxSeccomp) -> Result<oci::LinuxSeccomp, NriError> {
    let architectures: Result<Vec<_>, _> = policy
        .architectures
        .iter()
        .map(|name| word("seccomp_policy.architectures", name))
        .collect();
    let flags: Result<Vec<_>, _> = policy
        .flags
        .iter()
        .map(|name| word("seccomp_policy.flags", name))
        .collect();
    let syscalls: Result<Vec<_>, _> = policy.syscalls.iter().map(syscall).collect();
    let mut made = oci::LinuxSeccomp::default();
    made.set_default_action(word("seccomp_policy.default_action", &policy.default_action)?)
        .set_default_errno_ret(policy.default_errno.map(|v| v.value))
        .set_architectures(Some(architectures?).filter(|list| !list.is_empty()))
        .set_flags(Some(flags?).filter(|list| !list.is_empty()))
        .set_listener_path(
            Some(policy.listener_path.clone().into()).filter(|_| !policy.listener_path.is_empty()),
        )
        .set_listener_metadata(Some(policy.listener_metadata.clone()).filter(|text| !text.is_empty()))
        .set_syscalls(Some(syscalls?));
    Ok(made)
}

fn syscall(rule: &LinuxSyscall) -> Result<oci::LinuxSyscall, NriError> {
    let mut args = Vec::new();
    for arg in &rule.args {
        let made = oci::LinuxSeccompArgBuilder::default()
            .index(usize::try_from(arg.index).unwrap_or(usize::MAX))
            .value(arg.value)
            .value_two(arg.value_two)
            .op(word::<oci::LinuxSeccompOperator>(
                "seccomp_policy.syscalls.args.op",
                &arg.op,
            )?)
            .build();
        args.push(made.map_err(|error| NriError::adjustment("seccomp_policy", error.to_string()))?);
    }
    let mut made = oci::LinuxSyscall::default();
    made.set_names(rule.names.clone())
        .set_action(word("seccomp_policy.syscalls.action", &rule.action)?)
        .set_errno_ret(rule.errno_ret.map(|v| v.value))
        .set_args(Some(args).filter(|args| !args.is_empty()));
    Ok(made)
}

/// A word of the runtime specification.
fn word<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, NriError> {
    text.parse()
        .map_err(|_| NriError::adjustment(field, format!("there is no {text:?}")))
}
