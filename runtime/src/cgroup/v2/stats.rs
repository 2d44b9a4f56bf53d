//! A group's statistics from the files of cgroup v2.

use super::super::stats::{
    Cpu, Depth, Device, Folder, Hugetlb, Memory, Pids, Pressure, Reader, Stats, Swap, Throttling, number,
    pressure, table,
};
use super::mount;
use crate::error::{Error, Result};

/// Reads them.
pub(super) fn read(of: &mut Reader, depth: Depth) -> Result<Stats> {
    let all = depth == Depth::Everything;
    let folder = of.folder("cgroup2", |path| Some(mount().join(path)));
    let folder = folder.ok_or_else(|| Error::invalid("statistics", "there is no cgroup2 tree"))?;
    let mut stats = Stats {
        cpu: cpu(folder, all)?,
        memory: memory(folder, all)?,
        ..Stats::default()
    };
    if let Some(current) = folder.number("pids.current")? {
        let limit = if all {
            folder.glance_number("pids.max")?
        } else {
            None
        };
        stats.pids = Some(Pids { current, limit });
    }
    read_pressure(folder, &mut stats.pressure)?;
    if all {
        stats.io = folder
            .glance("io.stat")?
            .unwrap_or_default()
            .lines()
            .filter_map(device)
            .collect();
        stats.hugetlb = hugetlb(folder)?;
    }
    Ok(stats)
}

/// The pressure files, which a hybrid host has in its cgroup2 tree too.
pub(in crate::cgroup) fn read_pressure(folder: &mut Folder, into: &mut Pressure) -> Result<()> {
    into.cpu = folder.read("cpu.pressure")?.and_then(pressure);
    into.memory = folder.read("memory.pressure")?.and_then(pressure);
    into.io = folder.read("io.pressure")?.and_then(pressure);
    Ok(())
}

fn cpu(folder: &mut Folder, all: bool) -> Result<Cpu> {
    let mut cpu = Cpu::default();
    let mut throttling = None;
    let micro = |n: u64| n.saturating_mul(1000);
    table(folder.must_read("cpu.stat")?, |key, value| match key {
        "usage_usec" => cpu.usage = micro(value),
        "user_usec" => cpu.user = micro(value),
        "system_usec" => cpu.system = micro(value),
        "nr_periods" => throttling.get_or_insert_with(Throttling::default).periods = value,
        "nr_throttled" => {
            throttling
                .get_or_insert_with(Throttling::default)
                .throttled_periods = value;
        }
        "throttled_usec" => throttling.get_or_insert_with(Throttling::default).throttled = micro(value),
        _ => {}
    });
    cpu.throttling = throttling.filter(|_| all);
    Ok(cpu)
}

fn memory(folder: &mut Folder, all: bool) -> Result<Option<Memory>> {
    let Some(usage) = folder.number("memory.current")? else {
        return Ok(None);
    };
    let mut memory = Memory {
        usage,
        limit: folder.number("memory.max")?,
        ..Memory::default()
    };
    let mut inactive = 0;
    if let Some(text) = folder.read("memory.stat")? {
        table(text, |key, value| match key {
            "anon" => memory.rss = value,
            "file" => memory.cache = value,
            "file_mapped" => memory.mapped_file = value,
            "inactive_file" => inactive = value,
            "kernel" => memory.kernel = Some(value),
            "pgfault" => memory.faults = value,
            "pgmajfault" => memory.major_faults = value,
            _ => {}
        });
    }
    memory.working_set = usage.saturating_sub(inactive);
    if let Some(usage) = folder.number("memory.swap.current")? {
        let limit = folder.read("memory.swap.max")?.and_then(number);
        memory.swap = Some(Swap { usage, limit });
    }
    if all {
        memory.peak = folder.glance_number("memory.peak")?;
        if let Some(text) = folder.glance("memory.events")? {
            table(text, |key, value| match key {
                "max" => memory.limit_hits = Some(value),
                "oom_kill" => memory.oom_kills = Some(value),
                _ => {}
            });
        }
    }
    Ok(Some(memory))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`
fn device(line: &str) -> Option<Device> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut device = Device {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        ..Device::default()
    };
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            continue;
        };
        let Ok(value) = value.parse() else { continue };
        match key {
            "rbytes" => device.read_bytes = value,
            "wbytes" => device.write_bytes = value,
            "rios" => device.reads = value,
            "wios" => device.writes = value,
            _ => {}
        }
    }
    Some(device)
}

fn hugetlb(folder: &mut Folder) -> Result<Vec<Hugetlb>> {
    let mut found = Vec::new();
    for page_size in folder.page_sizes(".current") {
        let usage = folder.glance_number(&format!("hugetlb.{page_size}.current"))?;
        found.push(Hugetlb {
            page_size,
            usage: usage.unwrap_or_default(),
            peak: None,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_whatever_stands_between() {
        let line = "259:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0 cost.wait=3";
        let read = device(line).unwrap();
        assert_eq!((read.major, read.minor), (259, 0));
        assert_eq!((read.read_bytes, read.write_bytes), (4096, 8192));
        assert_eq!((read.reads, read.writes), (1, 2));
        assert!(device("").is_none());
        assert!(device("x:y rbytes=1").is_none());
    }
}
