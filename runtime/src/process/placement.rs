//! On which processors and from which memory nodes a process runs: `process.execCPUAffinity`, `linux.memoryPolicy`;
//! and as what kind of machine it sees the host: `linux.personality`.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use oci_spec::runtime::{
    LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, MemoryPolicyFlagType, MemoryPolicyModeType,
    Process, Spec,
};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::sys::process::{set_memory_policy, set_personality};

/// The highest number of a processor or node that is taken, plus one.
const MAX_NUMBER: usize = 1024;

/// Modes and flags of set_mempolicy(2).
const MPOL_F_NUMA_BALANCING: i32 = 1 << 13;
const MPOL_F_RELATIVE_NODES: i32 = 1 << 14;
const MPOL_F_STATIC_NODES: i32 = 1 << 15;

/// Which of the two lists of `process.execCPUAffinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    /// Until the process is in the container's cgroup.
    Initial,
    /// From then on.
    Final,
}

/// Binds the caller to the processors that an exec asks for, if it does.
pub(crate) fn set_affinity(process: &Process, which: Affinity) -> Result<()> {
    let affinity = process.exec_cpu_affinity().as_ref();
    let (list, name) = match which {
        Affinity::Initial => (affinity.and_then(|a| a.initial().as_deref()), "initial"),
        Affinity::Final => (affinity.and_then(|a| a.cpu_affinity_final().as_deref()), "final"),
    };
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    let field = format!("process.execCPUAffinity.{name}");
    let mut set = CpuSet::new();
    for number in numbers(&field, list)? {
        set.set(number)
            .map_err(|_| Error::invalid(&field, format!("{number} is no processor")))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
        .map_err(|errno| Error::invalid(&field, format!("{list:?}: {}", errno.desc())))
}

/// Lets the caller run on all processors of its cgroup, whatever those of whoever started the runtime. What the host
/// doesn't allow stays as it is.
pub(crate) fn reset_affinity() {
    let mut all = CpuSet::new();
    for number in 0..CpuSet::count() {
        // each is below the set's size
        let _ = all.set(number);
    }
    let _ = sched_setaffinity(Pid::from_raw(0), &all);
}

/// Has the caller's memory come from the nodes of a policy.
fn apply_memory_policy(policy: &LinuxMemoryPolicy) -> Result<()> {
    const FIELD: &str = "linux.memoryPolicy";
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => MPOL_F_NUMA_BALANCING,
            MemoryPolicyFlagType::MpolFRelativeNodes => MPOL_F_RELATIVE_NODES,
            MemoryPolicyFlagType::MpolFStaticNodes => MPOL_F_STATIC_NODES,
        }
    });
    let mut mask = [0_u64; MAX_NUMBER / 64];
    let nodes = policy.nodes().as_deref().unwrap_or_default();
    for number in numbers(FIELD, nodes)? {
        mask[number / 64] |= 1 << (number % 64);
    }
    set_memory_policy(mode | flags, &mask).map_err(|errno| match errno {
        Errno::ENOSYS => Error::invalid(FIELD, "this kernel has no NUMA policies"),
        _ => Error::invalid(FIELD, format!("nodes {nodes:?}: {}", errno.desc())),
    })
}

/// What all of a container's processes have besides their own settings: `linux.personality` and `linux.memoryPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    personality: Option<LinuxPersonality>,
    memory_policy: Option<LinuxMemoryPolicy>,
}

impl Machine {
    /// None if nothing is asked for, as nearly always.
    pub(crate) fn of(spec: &Spec) -> Option<Self> {
        let linux = spec.linux().as_ref()?;
        let machine = Self {
            personality: linux.personality().clone(),
            memory_policy: linux.memory_policy().clone(),
        };
        (machine.personality.is_some() || machine.memory_policy.is_some()).then_some(machine)
    }

    /// Applies them to the caller, and to what it executes.
    pub(crate) fn apply(&self) -> Result<()> {
        if let Some(personality) = &self.personality {
            set_execution_domain(personality)?;
        }
        self.memory_policy.as_ref().map_or(Ok(()), apply_memory_policy)
    }
}

fn set_execution_domain(personality: &LinuxPersonality) -> Result<()> {
    if personality.flags().as_ref().is_some_and(|f| !f.is_empty()) {
        return Err(Error::invalid("linux.personality.flags", "none is defined"));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    set_personality(domain).call("personality")
}

/// `0-3,7` as numbers.
fn numbers(field: &str, list: &str) -> Result<Vec<usize>> {
    let wrong = || Error::invalid(field, format!("{list:?} is no list as 0-3,7"));
    let mut all = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < MAX_NUMBER);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(wrong());
        };
        if first > last {
            return Err(wrong());
        }
        all.extend(first..=last);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_bad_ones_named() {
        assert_eq!(numbers("f", "0-2, 7").unwrap(), [0, 1, 2, 7]);
        assert!(numbers("f", "").unwrap().is_empty());
        for bad in ["3-1", "x", "1024", "0-99999999999", "-1"] {
            let e = numbers("f", bad).unwrap_err().to_string();
            assert!(e.starts_with(&format!("f: {bad:?}")), "{e}");
        }
    }
}
