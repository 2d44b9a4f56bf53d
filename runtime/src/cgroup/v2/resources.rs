//! `linux.resources` in the files of cgroup v2.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::super::file;
use super::super::update::{ControlFile, control_files as files};
use crate::error::{Error, Result};

/// How often the kernel is asked to free what is above a new limit of memory: pages in use are spared the first time.
const RECLAIMS: u32 = 3;

/// Applies all but the device rules; returns what could not be done but may be done without.
pub(super) fn apply(folder: &Path, resources: &LinuxResources) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if let Some(memory) = resources.memory() {
        apply_memory(folder, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        apply_cpu(folder, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        let value = match pids.limit() {
            n if n < 0 => "max".to_owned(),
            0 => "1".to_owned(),
            n => n.to_string(),
        };
        file::write(folder, "pids.max", &value)?;
    }
    if let Some(io) = resources.block_io() {
        apply_io(folder, io)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let value = limit.limit().to_string();
        if file::write_if_there(folder, &format!("hugetlb.{}.max", limit.page_size()), &value)? {
            file::write_if_there(folder, &format!("hugetlb.{}.rsvd.max", limit.page_size()), &value)?;
        } else if limit.limit() != 0 {
            warnings.push(format!(
                "no hugetlb cgroup: limit of {} pages not set",
                limit.page_size()
            ));
        }
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        let number = |n: Option<u32>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
        let line = format!(
            "{device} hca_handle={} hca_object={}",
            number(limits.hca_handles()),
            number(limits.hca_objects())
        );
        file::write(folder, "rdma.max", &line)?;
    }
    // last, so that it wins over what was derived from v1's notions
    for (name, value) in resources.unified().iter().flatten() {
        apply_unified(folder, name, value)?;
    }
    Ok(warnings)
}

/// What [`apply`] may write for these limits.
pub(super) fn control_files(folder: &Path, resources: &LinuxResources) -> Vec<ControlFile> {
    let mut found = Vec::new();
    if resources.memory().is_some() {
        found.extend(files(folder, &["memory.max", "memory.swap.max", "memory.low"]));
    }
    if resources.cpu().is_some() {
        let names = [
            "cpu.idle",
            "cpu.weight",
            "cpu.max",
            "cpu.max.burst",
            "cpuset.cpus",
            "cpuset.mems",
        ];
        found.extend(files(folder, &names));
    }
    if resources.pids().is_some() {
        found.extend(files(folder, &["pids.max"]));
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        for suffix in ["max", "rsvd.max"] {
            found.push(ControlFile::new(
                folder,
                format!("hugetlb.{}.{suffix}", limit.page_size()),
            ));
        }
    }
    let unified = resources.unified().iter().flatten();
    found.extend(unified.map(|(name, _)| ControlFile::new(folder, name)));
    found
}

/// Has the kernel take back what it can where a new limit is below the usage; it would kill for the rest, so that is
/// refused.
pub(super) fn make_room(folder: &Path, resources: &LinuxResources) -> Result<()> {
    let limit = resources.memory().as_ref().and_then(LinuxMemory::limit);
    let Some(limit @ 1..) = limit else { return Ok(()) };
    for _ in 0..RECLAIMS {
        let Some(excess) = excess(folder, limit)? else {
            return Ok(());
        };
        // EAGAIN: not all could be had, as is seen next; before Linux 5.19 there is no such file
        let _ = file::write(folder, "memory.reclaim", &excess.to_string());
    }
    match excess(folder, limit)? {
        Some(_) => Err(below_usage(limit)),
        None => Ok(()),
    }
}

/// By how much the usage is above the limit.
fn excess(folder: &Path, limit: i64) -> Result<Option<i64>> {
    let usage: Option<i64> = file::read(folder, "memory.current")?.parse().ok();
    Ok(usage.map(|usage| usage - limit).filter(|excess| *excess > 0))
}

fn below_usage(limit: i64) -> Error {
    Error::invalid(
        "linux.resources.memory.limit",
        format!("{limit} is below what is in use"),
    )
}

fn apply_unified(folder: &Path, name: &str, value: &str) -> Result<()> {
    let field = || format!("linux.resources.unified[{name:?}]");
    if name.is_empty() || name.contains('/') || !name.contains('.') {
        return Err(Error::invalid(field(), "is no name of a control file"));
    }
    for line in value.lines() {
        if !file::write_if_there(folder, name, line)? {
            return Err(Error::invalid(field(), "this host's cgroups have no such file"));
        }
    }
    Ok(())
}

fn max_if_negative(n: i64) -> String {
    if n < 0 { "max".to_owned() } else { n.to_string() }
}

fn apply_memory(folder: &Path, memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().filter(|n| *n != 0);
    let swap = memory.swap().filter(|n| *n != 0);
    if let (Some(limit @ 1..), true) = (limit, memory.check_before_update().unwrap_or(false))
        && excess(folder, limit)?.is_some()
    {
        return Err(below_usage(limit));
    }
    if let Some(value) = swap_max(limit, swap)? {
        // a kernel without swap accounting lacks the file; without swap there is nothing to limit
        let there = file::write_if_there(folder, "memory.swap.max", &value)?;
        if !there && swap.is_some_and(|s| s > 0 && Some(s) != limit) {
            return Err(Error::invalid(
                "linux.resources.memory.swap",
                "this host does not count swap",
            ));
        }
    }
    if let Some(limit) = limit {
        file::write(folder, "memory.max", &max_if_negative(limit))?;
    }
    if let Some(n) = memory.reservation().filter(|n| *n != 0) {
        file::write(folder, "memory.low", &max_if_negative(n))?;
    }
    Ok(())
}

/// v1 limits memory and swap together, v2 swap alone.
pub(in crate::cgroup) fn swap_max(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>> {
    match (limit, swap) {
        (Some(-1), None) => Ok(Some("max".to_owned())),
        (_, None) => Ok(None),
        (_, Some(..=-1)) => Ok(Some("max".to_owned())),
        (Some(limit @ 0..), Some(swap)) if swap >= limit => Ok(Some((swap - limit).to_string())),
        (limit, Some(swap)) => {
            let reason = format!("{swap} needs a memory.limit not above it, which is {limit:?}");
            Err(Error::invalid("linux.resources.memory.swap", reason))
        }
    }
}

fn apply_cpu(folder: &Path, cpu: &LinuxCpu) -> Result<()> {
    if let Some(idle) = cpu.idle() {
        file::write(folder, "cpu.idle", &idle.to_string())?;
    }
    // an idle group takes no weight
    if let Some(shares) = cpu.shares().filter(|n| *n != 0 && cpu.idle() != Some(1)) {
        file::write(folder, "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    // a burst above the quota is refused, whichever of both changes first: begin with none
    if cpu.burst().is_some() && cpu.quota().is_some() {
        file::write_if_there(folder, "cpu.max.burst", "0")?;
    }
    let (quota, period) = (cpu.quota().filter(|n| *n != 0), cpu.period().filter(|n| *n != 0));
    match (quota, period) {
        (None, None) => {}
        (Some(quota), None) => file::write(folder, "cpu.max", &max_if_negative(quota))?,
        (None, Some(period)) => file::write(folder, "cpu.max", &format!("max {period}"))?,
        (Some(quota), Some(period)) => {
            file::write(folder, "cpu.max", &format!("{} {period}", max_if_negative(quota)))?;
        }
    }
    if let Some(burst) = cpu.burst() {
        file::write(folder, "cpu.max.burst", &burst.to_string())?;
    }
    for (name, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            file::write(folder, name, value)?;
        }
    }
    Ok(())
}

/// cpu.shares (2..262144) as cpu.weight (1..10000), so that both defaults (1024 and 100) meet: the formula that the
/// kubelet uses for the pods' groups.
pub(in crate::cgroup) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// A v1 weight (10..1000) as io.weight (1..10000).
pub(in crate::cgroup) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn apply_io(folder: &Path, io: &LinuxBlockIo) -> Result<()> {
    if let Some(weight) = io.weight().filter(|w| *w != 0)
        && !file::write_if_there(folder, "io.bfq.weight", &weight.to_string())?
    {
        file::write(folder, "io.weight", &format!("default {}", io_weight(weight)))?;
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            file::write(folder, "io.bfq.weight", &line)?;
        }
    }
    throttle(folder, "rbps", io.throttle_read_bps_device())?;
    throttle(folder, "wbps", io.throttle_write_bps_device())?;
    throttle(folder, "riops", io.throttle_read_iops_device())?;
    throttle(folder, "wiops", io.throttle_write_iops_device())
}

fn throttle(folder: &Path, key: &str, devices: &Option<Vec<LinuxThrottleDevice>>) -> Result<()> {
    for device in devices.iter().flatten() {
        let rate = if device.rate() == 0 {
            "max".to_owned()
        } else {
            device.rate().to_string()
        };
        file::write(
            folder,
            "io.max",
            &format!("{}:{} {key}={rate}", device.major(), device.minor()),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        let pairs = [
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (512, 59),
            (0, 0),
            (300_000, 10_000),
        ];
        for (shares, weight) in pairs {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn swap_is_what_exceeds_memory() {
        assert_eq!(swap_max(Some(100), Some(150)).unwrap().as_deref(), Some("50"));
        assert_eq!(swap_max(Some(100), Some(100)).unwrap().as_deref(), Some("0"));
        assert_eq!(swap_max(Some(100), Some(-1)).unwrap().as_deref(), Some("max"));
        assert_eq!(swap_max(Some(100), None).unwrap(), None);
        assert!(swap_max(Some(100), Some(50)).is_err());
        assert!(swap_max(None, Some(50)).is_err());
    }
}
