//! Limits that plugins want: each may be set by one plugin.

use super::owners::Owners;
use crate::nri::NriError;
use crate::proto::nri::{Field, LinuxCpu, LinuxMemory, LinuxResources};

/// Takes over the fields of `$from` that are set into both of the others, in the name of a plugin.
macro_rules! take_over {
    ($claim:expr, $from:expr, $merged:expr, $shown:expr, $($name:ident: $field:expr),+ $(,)?) => {
        $(if is_set(&$from.$name) {
            $claim($field, None)?;
            $merged.$name.clone_from(&$from.$name);
            $shown.$name.clone_from(&$from.$name);
        })+
    };
}

fn is_set<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}

/// Adds the limits that `plugin` wants for a container to what was wanted before (`merged`) and to what the next plugin
/// is shown (`shown`).
///
/// # Errors
/// [`NriError::Conflict`]; some of the limits may have been taken over then.
pub(super) fn merge(
    owners: &mut Owners,
    id: &str,
    plugin: &str,
    wanted: &LinuxResources,
    merged: &mut LinuxResources,
    shown: &mut LinuxResources,
) -> Result<(), NriError> {
    let mut claim = |field: Field, key: Option<&str>| owners.claim(id, field, key, plugin);
    if let Some(from) = &wanted.memory {
        let merged = merged.memory.get_or_insert_default();
        let shown = shown.memory.get_or_insert_default();
        memory(&mut claim, from, merged, shown)?;
    }
    if let Some(from) = &wanted.cpu {
        let merged = merged.cpu.get_or_insert_default();
        let shown = shown.cpu.get_or_insert_default();
        cpu(&mut claim, from, merged, shown)?;
    }
    for limit in &wanted.hugepage_limits {
        claim(Field::HugepageLimits, Some(&limit.page_size))?;
        for list in [&mut merged.hugepage_limits, &mut shown.hugepage_limits] {
            list.retain(|other| other.page_size != limit.page_size);
            list.push(limit.clone());
        }
    }
    for (key, value) in &wanted.unified {
        claim(Field::CgroupsUnified, Some(key))?;
        for map in [&mut merged.unified, &mut shown.unified] {
            map.insert(key.clone(), value.clone());
        }
    }
    for list in [&mut merged.devices, &mut shown.devices] {
        list.extend(wanted.devices.iter().cloned());
    }
    take_over!(claim, wanted, merged, shown,
        blockio_class: Field::BlockioClass, rdt_class: Field::RdtClass, pids: Field::PidsLimit);
    Ok(())
}

fn memory(
    claim: &mut impl FnMut(Field, Option<&str>) -> Result<(), NriError>,
    from: &LinuxMemory,
    merged: &mut LinuxMemory,
    shown: &mut LinuxMemory,
) -> Result<(), NriError> {
    take_over!(claim, from, merged, shown,
        limit: Field::MemLimit,
        reservation: Field::MemReservation,
        swap: Field::MemSwapLimit,
        kernel: Field::MemKernelLimit,
        kernel_tcp: Field::MemTcpLimit,
        swappiness: Field::MemSwappiness,
        disable_oom_killer: Field::MemDisableOomKiller,
        use_hierarchy: Field::MemUseHierarchy,
    );
    Ok(())
}

fn cpu(
    claim: &mut impl FnMut(Field, Option<&str>) -> Result<(), NriError>,
    from: &LinuxCpu,
    merged: &mut LinuxCpu,
    shown: &mut LinuxCpu,
) -> Result<(), NriError> {
    take_over!(claim, from, merged, shown,
        shares: Field::CpuShares,
        quota: Field::CpuQuota,
        period: Field::CpuPeriod,
        realtime_runtime: Field::CpuRealtimeRuntime,
        realtime_period: Field::CpuRealtimePeriod,
        cpus: Field::CpuSetCpUs,
        mems: Field::CpuSetMems,
    );
    Ok(())
}
