//! The kernel's numbers as the CRI has them.

use std::path::Path;

use pintle_runtime::cgroup::{Memory, Psi, Stall, Stats};

use super::layer::LayerUsage;
use super::network::{Interface, default_interface};
use crate::proto::{
    CpuUsage, FilesystemIdentifier, FilesystemUsage, IoUsage, MemoryUsage, NetworkInterfaceUsage,
    NetworkUsage, ProcessUsage, PsiData, PsiStats, SwapUsage, UInt64Value,
};

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

pub(super) fn cpu(timestamp: i64, stats: &Stats, cores: Option<u64>) -> CpuUsage {
    CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(stats.cpu.usage),
        usage_nano_cores: cores.and_then(value),
        psi: stats.pressure.cpu.map(psi),
    }
}

pub(super) fn memory(timestamp: i64, memory: &Memory, stats: &Stats) -> MemoryUsage {
    let available = memory.limit.map(|limit| limit.saturating_sub(memory.working_set));
    MemoryUsage {
        timestamp,
        working_set_bytes: value(memory.working_set),
        available_bytes: available.and_then(value),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.faults),
        major_page_faults: value(memory.major_faults),
        psi: stats.pressure.memory.map(psi),
    }
}

pub(super) fn swap(timestamp: i64, memory: &Memory) -> Option<SwapUsage> {
    let swap = memory.swap?;
    let available = swap.limit.map(|limit| limit.saturating_sub(swap.usage));
    Some(SwapUsage {
        timestamp,
        swap_available_bytes: available.and_then(value),
        swap_usage_bytes: value(swap.usage),
    })
}

/// Pressure is all that the CRI has of block devices.
pub(super) fn io(timestamp: i64, stats: &Stats) -> Option<IoUsage> {
    let psi = stats.pressure.io.map(psi)?;
    Some(IoUsage {
        timestamp,
        psi: Some(psi),
    })
}

fn psi(pressure: Psi) -> PsiStats {
    PsiStats {
        full: pressure.full.map(stall),
        some: Some(stall(pressure.some)),
    }
}

/// The kernel counts microseconds, the CRI nanoseconds.
fn stall(line: Stall) -> PsiData {
    PsiData {
        total: line.total.saturating_mul(1000),
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
    }
}

pub(super) fn layer(usage: &LayerUsage, place: &Path) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: usage.counted_at,
        fs_id: Some(FilesystemIdentifier {
            mountpoint: place.display().to_string(),
        }),
        used_bytes: value(usage.bytes),
        inodes_used: value(usage.inodes),
    }
}

pub(super) fn processes(timestamp: i64, count: u64) -> ProcessUsage {
    ProcessUsage {
        timestamp,
        process_count: value(count),
    }
}

pub(super) fn network(timestamp: i64, all: &[Interface]) -> NetworkUsage {
    NetworkUsage {
        timestamp,
        default_interface: default_interface(all).map(interface),
        interfaces: all.iter().map(interface).collect(),
    }
}

fn interface(interface: &Interface) -> NetworkInterfaceUsage {
    NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: value(interface.received.bytes),
        rx_errors: value(interface.received.errors),
        tx_bytes: value(interface.sent.bytes),
        tx_errors: value(interface.sent.errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pintle_runtime::cgroup::{Pressure, Swap};

    #[test]
    fn what_is_unknown_is_absent_and_not_zero() {
        let mut stats = Stats::default();
        let usage = Memory {
            usage: 300,
            working_set: 200,
            ..Memory::default()
        };
        assert_eq!(cpu(1, &stats, None).usage_nano_cores, None);
        assert_eq!(cpu(1, &stats, None).psi, None);
        assert_eq!(memory(1, &usage, &stats).available_bytes, None, "no limit");
        assert_eq!(swap(1, &usage), None);
        assert_eq!(io(1, &stats), None);

        stats.pressure = Pressure {
            io: Some(Psi {
                some: Stall {
                    total: 5,
                    avg10: 1.5,
                    ..Stall::default()
                },
                full: None,
            }),
            ..Pressure::default()
        };
        let psi = io(1, &stats).unwrap().psi.unwrap();
        assert_eq!(psi.full, None);
        assert_eq!(psi.some.unwrap().total, 5_000, "nanoseconds");
        let limited = Memory {
            limit: Some(250),
            swap: Some(Swap {
                usage: 10,
                limit: Some(4),
            }),
            ..usage
        };
        assert_eq!(memory(1, &limited, &stats).available_bytes, value(50));
        assert_eq!(swap(1, &limited).unwrap().swap_available_bytes, value(0));
    }
}
