//! A group's statistics from v1's controllers, and from the cgroup2 tree beside them what only that has.

use std::path::Path;

use super::super::hierarchy::{hierarchies, v1_folder};
use super::super::stats::{
    Cpu, Depth, Device, Folder, Hugetlb, Memory, Pids, Stats, Swap, Throttling, table,
};
use super::missing;
use crate::error::Result;

/// Reads them. The group must exist under cpuacct; other controllers may be missing.
pub(super) fn read(path: &Path, depth: Depth) -> Result<Stats> {
    let all = depth == Depth::Everything;
    let mut stats = Stats {
        cpu: cpu(path, all)?,
        ..Stats::default()
    };
    if let Some(mut folder) = open("memory", path)? {
        stats.memory = memory(&mut folder, all)?;
    }
    if let Some(mut folder) = open("pids", path)?
        && let Some(current) = folder.number("pids.current")?
    {
        let limit = if all { folder.number("pids.max")? } else { None };
        stats.pids = Some(Pids { current, limit });
    }
    if let Some(tree) = hierarchies().iter().find(|h| h.v2)
        && let Some(mut folder) = there(Folder::open(tree.mount.join(path)))?
    {
        super::super::v2::read_pressure(&mut folder, &mut stats.pressure)?;
    }
    if all {
        if let Some(mut folder) = open("blkio", path)? {
            stats.io = devices(&mut folder)?;
        }
        if let Some(folder) = open("hugetlb", path)? {
            stats.hugetlb = hugetlb(folder)?;
        }
    }
    Ok(stats)
}

/// The group's folder under a controller; None without the controller, or where the group isn't under it.
fn open(controller: &str, path: &Path) -> Result<Option<Folder>> {
    v1_folder(controller, path).map_or(Ok(None), |folder| there(Folder::open(folder)))
}

fn there(opened: Result<Folder>) -> Result<Option<Folder>> {
    match opened {
        Err(e) if e.errno() == Some(nix::errno::Errno::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}

fn cpu(path: &Path, all: bool) -> Result<Cpu> {
    let folder = v1_folder("cpuacct", path).ok_or_else(|| missing("cpuacct", "statistics"))?;
    let mut folder = Folder::open(folder)?;
    let usage = folder.number("cpuacct.usage")?.unwrap_or_default();
    let mut cpu = Cpu {
        usage,
        ..Cpu::default()
    };
    if !all {
        return Ok(cpu);
    }
    cpu.user = folder.number("cpuacct.usage_user")?.unwrap_or_default();
    cpu.system = folder.number("cpuacct.usage_sys")?.unwrap_or_default();
    if let Some(mut folder) = open("cpu", path)?
        && let Some(text) = folder.read("cpu.stat")?
    {
        let mut throttling = Throttling::default();
        table(text, |key, value| match key {
            "nr_periods" => throttling.periods = value,
            "nr_throttled" => throttling.throttled_periods = value,
            "throttled_time" => throttling.throttled = value,
            _ => {}
        });
        cpu.throttling = Some(throttling);
    }
    Ok(cpu)
}

fn memory(folder: &mut Folder, all: bool) -> Result<Option<Memory>> {
    let Some(usage) = folder.number("memory.usage_in_bytes")? else {
        return Ok(None);
    };
    let mut memory = Memory {
        usage,
        ..Memory::default()
    };
    let (mut inactive, mut swap, mut with_swap) = (0, None, None);
    if let Some(text) = folder.read("memory.stat")? {
        table(text, |key, value| match key {
            "total_rss" => memory.rss = value,
            "total_cache" => memory.cache = value,
            "total_mapped_file" => memory.mapped_file = value,
            "total_inactive_file" => inactive = value,
            "total_pgfault" => memory.faults = value,
            "total_pgmajfault" => memory.major_faults = value,
            "total_swap" => swap = Some(value),
            "hierarchical_memory_limit" => memory.limit = limit(value),
            "hierarchical_memsw_limit" => with_swap = limit(value),
            _ => {}
        });
    }
    memory.working_set = usage.saturating_sub(inactive);
    memory.swap = swap.map(|usage| Swap {
        usage,
        limit: with_swap.map(|both| both.saturating_sub(memory.limit.unwrap_or_default())),
    });
    if all {
        memory.kernel = folder.number("memory.kmem.usage_in_bytes")?;
        memory.peak = folder.number("memory.max_usage_in_bytes")?;
        memory.limit_hits = folder.number("memory.failcnt")?;
        if let Some(text) = folder.read("memory.oom_control")? {
            table(text, |key, value| {
                if key == "oom_kill" {
                    memory.oom_kills = Some(value);
                }
            });
        }
    }
    Ok(Some(memory))
}

fn limit(value: u64) -> Option<u64> {
    super::super::stats::number(&value.to_string())
}

/// `8:0 Read 4096`, and `Total 4096` at the end.
fn devices(folder: &mut Folder) -> Result<Vec<Device>> {
    let mut devices: Vec<Device> = Vec::new();
    let files = [
        ("blkio.throttle.io_service_bytes_recursive", true),
        ("blkio.throttle.io_serviced_recursive", false),
    ];
    for (name, bytes) in files {
        for line in folder.read(name)?.unwrap_or_default().lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(device), Some(what), Some(value)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let (Some((major, minor)), Ok(value)) = (device_number(device), value.parse()) else {
                continue;
            };
            let at = devices.iter().position(|d| (d.major, d.minor) == (major, minor));
            let at = at.unwrap_or_else(|| {
                devices.push(Device {
                    major,
                    minor,
                    ..Device::default()
                });
                devices.len() - 1
            });
            let device = &mut devices[at];
            match (what, bytes) {
                ("Read", true) => device.read_bytes = value,
                ("Write", true) => device.write_bytes = value,
                ("Read", false) => device.reads = value,
                ("Write", false) => device.writes = value,
                _ => {}
            }
        }
    }
    Ok(devices)
}

fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn hugetlb(mut folder: Folder) -> Result<Vec<Hugetlb>> {
    let mut found = Vec::new();
    for page_size in folder.page_sizes(".usage_in_bytes") {
        let usage = folder.number(&format!("hugetlb.{page_size}.usage_in_bytes"))?;
        let peak = folder.number(&format!("hugetlb.{page_size}.max_usage_in_bytes"))?;
        found.push(Hugetlb {
            page_size,
            usage: usage.unwrap_or_default(),
            peak,
        });
    }
    Ok(found)
}
