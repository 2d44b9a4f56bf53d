//! A group's statistics from v1's controllers, and from the cgroup2 tree beside them what only that has.

use std::path::{Path, PathBuf};

use super::super::hierarchy::{hierarchies, v1_folder};
use super::super::stats::{
    Cpu, Depth, Device, Folder, Hugetlb, Memory, Pids, Reader, Stats, Swap, Throttling, number, table,
};
use super::missing;
use crate::error::Result;

/// Reads them. The group must exist under cpuacct; other controllers may be missing.
pub(super) fn read(of: &mut Reader, depth: Depth) -> Result<Stats> {
    let all = depth == Depth::Everything;
    let mut stats = Stats {
        cpu: cpu(of, all)?,
        ..Stats::default()
    };
    if let Some(folder) = under(of, "memory") {
        stats.memory = memory(folder, all)?;
    }
    if let Some(folder) = under(of, "pids")
        && let Some(current) = folder.number("pids.current")?
    {
        let limit = if all {
            folder.glance_number("pids.max")?
        } else {
            None
        };
        stats.pids = Some(Pids { current, limit });
    }
    if let Some(folder) = of.folder("cgroup2", cgroup2) {
        super::super::v2::read_pressure(folder, &mut stats.pressure)?;
    }
    if all {
        if let Some(folder) = under(of, "blkio") {
            stats.io = devices(folder)?;
        }
        if let Some(folder) = under(of, "hugetlb") {
            stats.hugetlb = hugetlb(folder)?;
        }
    }
    Ok(stats)
}

/// The group's folder under a controller; None without the controller.
fn under<'a>(of: &'a mut Reader, controller: &'static str) -> Option<&'a mut Folder> {
    of.folder(controller, |path| v1_folder(controller, path))
}

/// The group's folder in the cgroup2 tree of a hybrid host.
fn cgroup2(path: &Path) -> Option<PathBuf> {
    hierarchies()
        .iter()
        .find(|h| h.v2)
        .map(|tree| tree.mount.join(path))
}

fn cpu(of: &mut Reader, all: bool) -> Result<Cpu> {
    let folder = under(of, "cpuacct").ok_or_else(|| missing("cpuacct", "statistics"))?;
    let usage = number(folder.must_read("cpuacct.usage")?).unwrap_or_default();
    let mut cpu = Cpu {
        usage,
        ..Cpu::default()
    };
    if !all {
        return Ok(cpu);
    }
    cpu.user = folder.glance_number("cpuacct.usage_user")?.unwrap_or_default();
    cpu.system = folder.glance_number("cpuacct.usage_sys")?.unwrap_or_default();
    if let Some(folder) = under(of, "cpu")
        && let Some(text) = folder.glance("cpu.stat")?
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
        memory.kernel = folder.glance_number("memory.kmem.usage_in_bytes")?;
        memory.peak = folder.glance_number("memory.max_usage_in_bytes")?;
        memory.limit_hits = folder.glance_number("memory.failcnt")?;
        if let Some(text) = folder.glance("memory.oom_control")? {
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
    number(&value.to_string())
}

/// `8:0 Read 4096`, and `Total 4096` at the end.
fn devices(folder: &mut Folder) -> Result<Vec<Device>> {
    let mut devices: Vec<Device> = Vec::new();
    let files = [
        ("blkio.throttle.io_service_bytes_recursive", true),
        ("blkio.throttle.io_serviced_recursive", false),
    ];
    for (name, bytes) in files {
        for line in folder.glance(name)?.unwrap_or_default().lines() {
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

fn hugetlb(folder: &mut Folder) -> Result<Vec<Hugetlb>> {
    let mut found = Vec::new();
    for page_size in folder.page_sizes(".usage_in_bytes") {
        let usage = folder.glance_number(&format!("hugetlb.{page_size}.usage_in_bytes"))?;
        let peak = folder.glance_number(&format!("hugetlb.{page_size}.max_usage_in_bytes"))?;
        found.push(Hugetlb {
            page_size,
            usage: usage.unwrap_or_default(),
            peak,
        });
    }
    Ok(found)
}
