//! CRI's resources as the runtime spec has them, and their changes while a container lives.
//!
//! CRI says "leave it" by 0 and by empty text; "no limit" is -1.

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};

use super::{CgroupVersion, NodeFacts, SpecError};
use crate::proto::{HugepageLimit, LinuxContainerResources};

/// The key of `unified` that is the swap limit.
const SWAP_MAX: &str = "memory.swap.max";

/// CRI's resources for the cgroup.
///
/// A memory limit without a swap limit allows no swap, where swap can be limited at all. Sizes of huge pages that this
/// node can't limit are passed over: kubelet names every size of the node.
///
/// # Errors
/// A value that the kernel would refuse, or `unified` settings on cgroup v1.
pub fn to_oci(resources: &LinuxContainerResources, node: &NodeFacts) -> Result<LinuxResources, SpecError> {
    let mut oci = LinuxResources::default();
    oci.set_cpu(cpu(resources)?).set_memory(memory(resources, node)?);
    let hugepages = hugepages(&resources.hugepage_limits, node)?;
    if !hugepages.is_empty() {
        oci.set_hugepage_limits(Some(hugepages));
    }
    if !resources.unified.is_empty() {
        check_unified(resources, node)?;
        oci.set_unified(Some(resources.unified.clone().into_iter().collect()));
    }
    Ok(oci)
}

/// The resources in force after a change; what the change doesn't say stays.
pub fn update(
    current: &LinuxContainerResources,
    change: &LinuxContainerResources,
) -> LinuxContainerResources {
    let number = |new: i64, old: i64| if new == 0 { old } else { new };
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = current.unified.clone();
    unified.extend(change.unified.clone());
    let mut hugepage_limits = current.hugepage_limits.clone();
    for limit in &change.hugepage_limits {
        hugepage_limits.retain(|old| old.page_size != limit.page_size);
        hugepage_limits.push(limit.clone());
    }
    let memory_limit_in_bytes = number(change.memory_limit_in_bytes, current.memory_limit_in_bytes);
    // A container without swap stays without when only its memory changes.
    let no_swap = current.memory_swap_limit_in_bytes == current.memory_limit_in_bytes;
    let swap = if no_swap {
        memory_limit_in_bytes
    } else {
        current.memory_swap_limit_in_bytes
    };
    LinuxContainerResources {
        cpu_period: number(change.cpu_period, current.cpu_period),
        cpu_quota: number(change.cpu_quota, current.cpu_quota),
        cpu_shares: number(change.cpu_shares, current.cpu_shares),
        memory_limit_in_bytes,
        memory_swap_limit_in_bytes: number(change.memory_swap_limit_in_bytes, swap),
        oom_score_adj: number(change.oom_score_adj, current.oom_score_adj),
        cpuset_cpus: text(&change.cpuset_cpus, &current.cpuset_cpus),
        cpuset_mems: text(&change.cpuset_mems, &current.cpuset_mems),
        hugepage_limits,
        unified,
    }
}

/// `oom_score_adj` for the container's first process: the request's, else 0, but no lower than the daemon can set.
pub(super) fn oom_score_adj(resources: &LinuxContainerResources, node: &NodeFacts) -> Result<i32, SpecError> {
    let value = resources.oom_score_adj;
    if !(-1000..=1000).contains(&value) {
        return Err(SpecError::invalid(
            "resources.oom_score_adj",
            value,
            "expected -1000 to 1000",
        ));
    }
    let possible = node.oom_score_adj_floor.map_or(value, |floor| value.max(floor));
    i32::try_from(possible)
        .map_err(|_| SpecError::invalid("resources.oom_score_adj", possible, "out of range"))
}

/// A limit of processes.
pub(super) fn pids(limit: i64) -> LinuxPids {
    let mut pids = LinuxPids::default();
    pids.set_limit(limit);
    pids
}

fn cpu(resources: &LinuxContainerResources) -> Result<Option<LinuxCpu>, SpecError> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive("resources.cpu_shares", resources.cpu_shares)?)
        .set_period(positive("resources.cpu_period", resources.cpu_period)?)
        .set_quota(limit("resources.cpu_quota", resources.cpu_quota)?)
        .set_cpus(list("resources.cpuset_cpus", &resources.cpuset_cpus)?)
        .set_mems(list("resources.cpuset_mems", &resources.cpuset_mems)?);
    Ok(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()))
}

fn memory(resources: &LinuxContainerResources, node: &NodeFacts) -> Result<Option<LinuxMemory>, SpecError> {
    const SWAP: &str = "resources.memory_swap_limit_in_bytes";
    let bytes = limit("resources.memory_limit_in_bytes", resources.memory_limit_in_bytes)?;
    let mut swap = limit(SWAP, resources.memory_swap_limit_in_bytes)?;
    if let (Some(both), Some(memory)) = (swap, bytes)
        && both != -1
        && (memory == -1 || both < memory)
    {
        return Err(SpecError::invalid(
            SWAP,
            both,
            format!("below the limit of memory, {memory}"),
        ));
    }
    if !node.swap_limit {
        swap = None;
    } else if swap.is_none() && !resources.unified.contains_key(SWAP_MAX) {
        swap = bytes;
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(bytes).set_swap(swap);
    Ok(Some(memory).filter(|memory| *memory != LinuxMemory::default()))
}

fn hugepages(limits: &[HugepageLimit], node: &NodeFacts) -> Result<Vec<LinuxHugepageLimit>, SpecError> {
    let mut result = Vec::new();
    for limit in limits {
        if !is_page_size(&limit.page_size) {
            let reason = "not a size of huge pages, as 2MB";
            return Err(SpecError::invalid(
                "resources.hugepage_limits.page_size",
                &limit.page_size,
                reason,
            ));
        }
        let bytes = i64::try_from(limit.limit)
            .map_err(|_| SpecError::invalid("resources.hugepage_limits.limit", limit.limit, "too large"))?;
        if node.hugepage_sizes.contains(&limit.page_size) {
            let mut oci = LinuxHugepageLimit::default();
            oci.set_page_size(limit.page_size.clone()).set_limit(bytes);
            result.push(oci);
        }
    }
    Ok(result)
}

fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit))
        .unwrap_or_default();
    !number.is_empty() && !number.starts_with('0') && number.bytes().all(|digit| digit.is_ascii_digit())
}

fn check_unified(resources: &LinuxContainerResources, node: &NodeFacts) -> Result<(), SpecError> {
    const FIELD: &str = "resources.unified";
    for (key, value) in &resources.unified {
        if node.cgroup_version == CgroupVersion::V1 {
            let value = format!("{key}={value}");
            return Err(SpecError::Unsupported {
                field: FIELD,
                value,
                reason: "this node has cgroup v1",
            });
        }
        // A file of the container's own cgroup: controller and name.
        let shaped = key
            .split_once('.')
            .is_some_and(|(before, after)| !before.is_empty() && !after.is_empty());
        if !shaped || key.contains(['/', '\0']) || value.contains('\0') {
            return Err(SpecError::invalid(FIELD, key, "not the name of a cgroup's file"));
        }
    }
    Ok(())
}

fn positive(field: &'static str, value: i64) -> Result<Option<u64>, SpecError> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(SpecError::invalid(field, value, "must not be negative")),
    }
}

fn limit(field: &'static str, value: i64) -> Result<Option<i64>, SpecError> {
    match value {
        0 => Ok(None),
        -1.. => Ok(Some(value)),
        _ => Err(SpecError::invalid(
            field,
            value,
            "expected a limit, or -1 for none",
        )),
    }
}

/// A list of numbers and ranges (cpuset(7), "List format"). Whether the machine has them the kernel knows.
fn list(field: &'static str, text: &str) -> Result<Option<String>, SpecError> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
    let fine = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from <= to),
        None => number(part).is_some(),
    };
    if text.is_empty() {
        Ok(None)
    } else if text.split(',').all(fine) {
        Ok(Some(text.to_owned()))
    } else {
        Err(SpecError::invalid(field, text, "not a list as 0-3,7"))
    }
}

#[cfg(test)]
mod tests;
