//! Limits that plugins want, laid over those of a runtime spec.

use oci_spec::runtime as oci;

use crate::nri::NriError;
use crate::proto::nri::{LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};

/// Lays `wanted` over `limits`; what it doesn't say stays. Classes are another's business.
///
/// # Errors
/// [`NriError::Adjustment`].
pub(in crate::nri) fn overlay(
    limits: &mut oci::LinuxResources,
    wanted: &LinuxResources,
) -> Result<(), NriError> {
    if let Some(wanted) = &wanted.memory {
        memory(limits.memory_mut().get_or_insert_default(), wanted)?;
    }
    if let Some(wanted) = &wanted.cpu {
        cpu(limits.cpu_mut().get_or_insert_default(), wanted)?;
    }
    for limit in &wanted.hugepage_limits {
        let bytes = i64::try_from(limit.limit)
            .map_err(|_| NriError::adjustment("hugepage_limits", format!("{} is too large", limit.limit)))?;
        let mut made = oci::LinuxHugepageLimit::default();
        made.set_page_size(limit.page_size.clone()).set_limit(bytes);
        let all = limits.hugepage_limits_mut().get_or_insert_default();
        all.retain(|other| *other.page_size() != limit.page_size);
        all.push(made);
    }
    for (key, value) in &wanted.unified {
        // A file of the container's own cgroup: controller and name.
        let shaped = key
            .split_once('.')
            .is_some_and(|(before, after)| !before.is_empty() && !after.is_empty());
        if !shaped || key.contains(['/', '\0']) || value.contains('\0') {
            return Err(NriError::adjustment(
                "unified",
                format!("{key:?} is not the name of a cgroup's file"),
            ));
        }
        let all = limits.unified_mut().get_or_insert_default();
        all.insert(key.clone(), value.clone());
    }
    if let Some(wanted) = &wanted.pids {
        let mut pids = oci::LinuxPids::default();
        pids.set_limit(wanted.limit.max(-1));
        limits.set_pids(Some(pids));
    }
    for rule in &wanted.devices {
        limits
            .devices_mut()
            .get_or_insert_default()
            .push(device_rule(rule)?);
    }
    Ok(())
}

fn memory(memory: &mut oci::LinuxMemory, wanted: &LinuxMemory) -> Result<(), NriError> {
    if let Some(limit) = wanted.limit {
        // A limit of memory with swap follows, where there is one, and is not said itself.
        if let Some(swap) = memory.swap()
            && wanted.swap.is_none()
        {
            let no_swap = Some(swap) == memory.limit();
            memory.set_swap(Some(if no_swap || limit.value == -1 {
                limit.value
            } else {
                swap.max(limit.value)
            }));
        }
        memory.set_limit(Some(limit.value));
    }
    if wanted.reservation.is_some() {
        memory.set_reservation(wanted.reservation.map(|v| v.value));
    }
    if wanted.swap.is_some() {
        memory.set_swap(wanted.swap.map(|v| v.value));
    }
    if wanted.kernel.is_some() {
        memory.set_kernel(wanted.kernel.map(|v| v.value));
    }
    if wanted.kernel_tcp.is_some() {
        memory.set_kernel_tcp(wanted.kernel_tcp.map(|v| v.value));
    }
    if let Some(swappiness) = wanted.swappiness {
        if swappiness.value > 200 {
            let reason = format!("{} is above 200", swappiness.value);
            return Err(NriError::adjustment("memory.swappiness", reason));
        }
        memory.set_swappiness(Some(swappiness.value));
    }
    if wanted.disable_oom_killer.is_some() {
        memory.set_disable_oom_killer(wanted.disable_oom_killer.map(|v| v.value));
    }
    if wanted.use_hierarchy.is_some() {
        memory.set_use_hierarchy(wanted.use_hierarchy.map(|v| v.value));
    }
    Ok(())
}

fn cpu(cpu: &mut oci::LinuxCpu, wanted: &LinuxCpu) -> Result<(), NriError> {
    if wanted.shares.is_some() {
        cpu.set_shares(wanted.shares.map(|v| v.value));
    }
    if wanted.quota.is_some() {
        cpu.set_quota(wanted.quota.map(|v| v.value));
    }
    if wanted.period.is_some() {
        cpu.set_period(wanted.period.map(|v| v.value));
    }
    if wanted.realtime_runtime.is_some() {
        cpu.set_realtime_runtime(wanted.realtime_runtime.map(|v| v.value));
    }
    if wanted.realtime_period.is_some() {
        cpu.set_realtime_period(wanted.realtime_period.map(|v| v.value));
    }
    if !wanted.cpus.is_empty() {
        cpu.set_cpus(Some(list("cpu.cpus", &wanted.cpus)?));
    }
    if !wanted.mems.is_empty() {
        cpu.set_mems(Some(list("cpu.mems", &wanted.mems)?));
    }
    Ok(())
}

/// A list of numbers and ranges (cpuset(7)).
fn list(field: &'static str, text: &str) -> Result<String, NriError> {
    if text.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '-') {
        Ok(text.to_owned())
    } else {
        Err(NriError::adjustment(
            field,
            format!("{text:?} is not a list as 0-3,7"),
        ))
    }
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<oci::LinuxDeviceCgroup, NriError> {
    let mut made = oci::LinuxDeviceCgroup::default();
    made.set_allow(rule.allow)
        .set_typ(Some(device_type(&rule.r#type)?))
        .set_major(rule.major.map(|v| v.value))
        .set_minor(rule.minor.map(|v| v.value))
        .set_access(Some(rule.access.clone()).filter(|access| !access.is_empty()));
    Ok(made)
}

/// Kinds of devices by their letters (mknod(1), and `a` for all).
pub(super) fn device_type(letter: &str) -> Result<oci::LinuxDeviceType, NriError> {
    match letter {
        "" | "a" => Ok(oci::LinuxDeviceType::A),
        "b" => Ok(oci::LinuxDeviceType::B),
        "c" => Ok(oci::LinuxDeviceType::C),
        "u" => Ok(oci::LinuxDeviceType::U),
        "p" => Ok(oci::LinuxDeviceType::P),
        other => Err(NriError::adjustment(
            "devices.type",
            format!("there is no type {other:?}"),
        )),
    }
}
