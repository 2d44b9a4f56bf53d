//! Limits: of CRI and of the runtime specification, as NRI has them.

use oci_spec::runtime as oci;

use crate::proto::LinuxContainerResources;
use crate::proto::nri::{
    HugepageLimit, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources, OptionalBool,
    OptionalInt64, OptionalUInt64,
};

/// CRI's limits. What CRI leaves out by 0 is left out.
pub(in crate::nri) fn from_cri(cri: &LinuxContainerResources) -> LinuxResources {
    let signed = |value: i64| (value != 0).then_some(OptionalInt64 { value });
    let unsigned = |value: i64| {
        u64::try_from(value)
            .ok()
            .filter(|value| *value != 0)
            .map(|value| OptionalUInt64 { value })
    };
    LinuxResources {
        memory: Some(LinuxMemory {
            limit: signed(cri.memory_limit_in_bytes),
            swap: signed(cri.memory_swap_limit_in_bytes),
            ..LinuxMemory::default()
        }),
        cpu: Some(LinuxCpu {
            shares: unsigned(cri.cpu_shares),
            quota: signed(cri.cpu_quota),
            period: unsigned(cri.cpu_period),
            cpus: cri.cpuset_cpus.clone(),
            mems: cri.cpuset_mems.clone(),
            ..LinuxCpu::default()
        }),
        hugepage_limits: cri
            .hugepage_limits
            .iter()
            .map(|limit| HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: cri.unified.clone(),
        ..LinuxResources::default()
    }
}

/// The runtime specification's limits.
pub(in crate::nri) fn from_oci(limits: &oci::LinuxResources) -> LinuxResources {
    LinuxResources {
        memory: limits.memory().as_ref().map(memory),
        cpu: limits.cpu().as_ref().map(cpu),
        hugepage_limits: limits
            .hugepage_limits()
            .iter()
            .flatten()
            .map(|limit| HugepageLimit {
                page_size: limit.page_size().clone(),
                limit: u64::try_from(limit.limit()).unwrap_or(0),
            })
            .collect(),
        blockio_class: None,
        rdt_class: None,
        unified: limits.unified().clone().unwrap_or_default().into_iter().collect(),
        devices: limits.devices().iter().flatten().map(device_rule).collect(),
        pids: limits.pids().map(|pids| LinuxPids { limit: pids.limit() }),
    }
}

fn signed(value: Option<i64>) -> Option<OptionalInt64> {
    value.map(|value| OptionalInt64 { value })
}

fn unsigned(value: Option<u64>) -> Option<OptionalUInt64> {
    value.map(|value| OptionalUInt64 { value })
}

fn switch(value: Option<bool>) -> Option<OptionalBool> {
    value.map(|value| OptionalBool { value })
}

fn memory(memory: &oci::LinuxMemory) -> LinuxMemory {
    LinuxMemory {
        limit: signed(memory.limit()),
        reservation: signed(memory.reservation()),
        swap: signed(memory.swap()),
        kernel: signed(memory.kernel()),
        kernel_tcp: signed(memory.kernel_tcp()),
        swappiness: unsigned(memory.swappiness()),
        disable_oom_killer: switch(memory.disable_oom_killer()),
        use_hierarchy: switch(memory.use_hierarchy()),
    }
}

fn cpu(cpu: &oci::LinuxCpu) -> LinuxCpu {
    LinuxCpu {
        shares: unsigned(cpu.shares()),
        quota: signed(cpu.quota()),
        period: unsigned(cpu.period()),
        realtime_runtime: signed(cpu.realtime_runtime()),
        realtime_period: unsigned(cpu.realtime_period()),
        cpus: cpu.cpus().clone().unwrap_or_default(),
        mems: cpu.mems().clone().unwrap_or_default(),
    }
}

fn device_rule(rule: &oci::LinuxDeviceCgroup) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup {
        allow: rule.allow(),
        r#type: rule.typ().unwrap_or_default().as_str().to_owned(),
        major: signed(rule.major()),
        minor: signed(rule.minor()),
        access: rule.access().clone().unwrap_or_default(),
    }
}
