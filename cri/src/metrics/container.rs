//! The metrics of one container.

use std::path::Path;
use std::sync::Arc;

use nix::sys::statvfs::statvfs;
use pintle_runtime::cgroup::{Depth, Memory, Pressure, Stats};

use super::families::{self as of, Family};
use super::{Devices, Emitter, device_of, processes, seconds};
use crate::container::{Container, ContainerRecord, ContainerState};
use crate::core::Core;
use crate::pod::PodRecord;
use crate::proto::{ContainerMetrics, LinuxContainerResources};

/// cpu(7)'s own values, in force where the CRI says nothing.
const DEFAULT_SHARES: u64 = 1024;
const DEFAULT_PERIOD: u64 = 100_000;

/// The file system of all writable layers.
pub(super) struct Disk {
    device: (u64, u64),
    bytes: u64,
    inodes: u64,
    inodes_free: u64,
}

impl Disk {
    /// Looks at the file system that `path` lies on.
    pub(super) fn look(path: &Path) -> Option<Self> {
        let stat = statvfs(path).ok()?;
        Some(Self {
            device: device_of(path),
            bytes: stat.blocks() * stat.fragment_size(),
            inodes: stat.files(),
            inodes_free: stat.files_free(),
        })
    }
}

/// A running container's metrics; None for others, and where it is gone meanwhile.
pub(super) fn metrics(
    core: &Core,
    container: &Arc<Container>,
    pod: &PodRecord,
    disk: &Option<Disk>,
    devices: &mut Devices,
) -> Option<ContainerMetrics> {
    let record = container.cell.get();
    if record.state != ContainerState::Running {
        return None;
    }
    let group = &container.meter.group;
    let stats = group
        .stats(&core.kept, &record.cgroup, Depth::Everything)
        .inspect_err(|error| tracing::warn!(container = container.id, %error, "no metrics"))
        .ok()??;
    let (name, metadata) = (record.metadata().name, pod.metadata());
    let mut emitter = Emitter::new([
        name,
        record.cgroup_path(),
        record.image_name.clone(),
        record.id.clone(),
        metadata.namespace,
        metadata.name,
    ]);
    cpu(&mut emitter, &stats);
    if let Some(used) = &stats.memory {
        memory(&mut emitter, used);
    }
    pressure(&mut emitter, &stats.pressure);
    block_devices(&mut emitter, &stats, devices);
    for pages in &stats.hugetlb {
        emitter.add(&of::HUGETLB_USAGE, &[&pages.page_size], pages.usage);
        emitter.add_some(&of::HUGETLB_MAX, &[&pages.page_size], pages.peak);
    }
    if let Some(disk) = disk {
        layer(&mut emitter, core, container, disk, devices);
    }
    tasks(&mut emitter, &stats, &record);
    spec(&mut emitter, &record.resources);
    let now = u64::try_from(crate::time::now()).unwrap_or_default();
    emitter.add(&of::LAST_SEEN, &[], seconds(now));
    let started = u64::try_from(record.started_at).unwrap_or_default();
    emitter.add(&of::START_TIME, &[], seconds(started));
    Some(ContainerMetrics {
        container_id: record.id.clone(),
        metrics: emitter.metrics,
    })
}

fn cpu(emitter: &mut Emitter, stats: &Stats) {
    emitter.add(&of::CPU_USAGE, &["total"], seconds(stats.cpu.usage));
    emitter.add(&of::CPU_USER, &[], seconds(stats.cpu.user));
    emitter.add(&of::CPU_SYSTEM, &[], seconds(stats.cpu.system));
    if let Some(throttling) = stats.cpu.throttling {
        emitter.add(&of::CPU_PERIODS, &[], throttling.periods);
        emitter.add(&of::CPU_THROTTLED_PERIODS, &[], throttling.throttled_periods);
        emitter.add(&of::CPU_THROTTLED, &[], seconds(throttling.throttled));
    }
}

fn memory(emitter: &mut Emitter, memory: &Memory) {
    emitter.add(&of::MEMORY_USAGE, &[], memory.usage);
    emitter.add(&of::MEMORY_WORKING_SET, &[], memory.working_set);
    emitter.add(&of::MEMORY_RSS, &[], memory.rss);
    emitter.add(&of::MEMORY_CACHE, &[], memory.cache);
    emitter.add(&of::MEMORY_MAPPED_FILE, &[], memory.mapped_file);
    emitter.add_some(&of::MEMORY_KERNEL, &[], memory.kernel);
    emitter.add_some(&of::MEMORY_MAX, &[], memory.peak);
    emitter.add_some(&of::MEMORY_FAILCNT, &[], memory.limit_hits);
    emitter.add_some(&of::MEMORY_SWAP, &[], memory.swap.map(|swap| swap.usage));
    emitter.add_some(&of::OOM_EVENTS, &[], memory.oom_kills);
    // The counters include the groups below, so that both scopes are one.
    for scope in ["container", "hierarchy"] {
        emitter.add(&of::MEMORY_FAILURES, &["pgfault", scope], memory.faults);
        emitter.add(&of::MEMORY_FAILURES, &["pgmajfault", scope], memory.major_faults);
    }
}

fn pressure(emitter: &mut Emitter, pressure: &Pressure) {
    let kinds: [(_, &Family, &Family); 3] = [
        (pressure.cpu, &of::PRESSURE_CPU_WAITING, &of::PRESSURE_CPU_STALLED),
        (
            pressure.memory,
            &of::PRESSURE_MEMORY_WAITING,
            &of::PRESSURE_MEMORY_STALLED,
        ),
        (pressure.io, &of::PRESSURE_IO_WAITING, &of::PRESSURE_IO_STALLED),
    ];
    for (psi, waiting, stalled) in kinds {
        let Some(psi) = psi else { continue };
        emitter.add(waiting, &[], psi.some.total / 1_000_000);
        emitter.add_some(stalled, &[], psi.full.map(|full| full.total / 1_000_000));
    }
}

fn block_devices(emitter: &mut Emitter, stats: &Stats, devices: &mut Devices) {
    for device in &stats.io {
        let name = devices.name(device.major.into(), device.minor.into());
        let (major, minor) = (device.major.to_string(), device.minor.to_string());
        emitter.add(&of::BLKIO, &[name, &major, &minor, "Read"], device.read_bytes);
        emitter.add(&of::BLKIO, &[name, &major, &minor, "Write"], device.write_bytes);
        emitter.add(&of::FS_READ_BYTES, &[name], device.read_bytes);
        emitter.add(&of::FS_WRITE_BYTES, &[name], device.write_bytes);
        emitter.add(&of::FS_READS, &[name], device.reads);
        emitter.add(&of::FS_WRITES, &[name], device.writes);
    }
}

fn layer(emitter: &mut Emitter, core: &Core, container: &Arc<Container>, disk: &Disk, devices: &mut Devices) {
    let device = devices.name(disk.device.0, disk.device.1);
    emitter.add(&of::FS_LIMIT, &[device], disk.bytes);
    emitter.add(&of::FS_INODES_TOTAL, &[device], disk.inodes);
    emitter.add(&of::FS_INODES_FREE, &[device], disk.inodes_free);
    let usage = core.layers.usage(container);
    emitter.add_some(&of::FS_USAGE, &[device], usage.map(|usage| usage.bytes));
}

fn tasks(emitter: &mut Emitter, stats: &Stats, record: &ContainerRecord) {
    if let Some(pids) = stats.pids {
        emitter.add(&of::THREADS, &[], pids.current);
        emitter.add(&of::THREADS_MAX, &[], pids.limit.unwrap_or_default());
    }
    if let Some(all) = processes::look(&record.cgroup) {
        emitter.add(&of::PROCESSES, &[], all.count);
        emitter.add(&of::FILE_DESCRIPTORS, &[], all.descriptors);
        emitter.add(&of::SOCKETS, &[], all.sockets);
    }
    for (name, value) in processes::soft_limits(record.pid) {
        emitter.add(&of::ULIMITS, &[&name], value);
    }
}

/// The limits that were asked for.
fn spec(emitter: &mut Emitter, resources: &LinuxContainerResources) {
    let or = |value: i64, default: u64| u64::try_from(value).ok().filter(|v| *v != 0).unwrap_or(default);
    let quota = u64::try_from(resources.cpu_quota)
        .ok()
        .filter(|quota| *quota != 0);
    let protected = resources
        .unified
        .get("memory.low")
        .and_then(|text| text.parse().ok());
    emitter.add(
        &of::SPEC_CPU_SHARES,
        &[],
        or(resources.cpu_shares, DEFAULT_SHARES),
    );
    emitter.add(
        &of::SPEC_CPU_PERIOD,
        &[],
        or(resources.cpu_period, DEFAULT_PERIOD),
    );
    emitter.add_some(&of::SPEC_CPU_QUOTA, &[], quota);
    emitter.add(
        &of::SPEC_MEMORY_LIMIT,
        &[],
        or(resources.memory_limit_in_bytes, 0),
    );
    emitter.add(
        &of::SPEC_MEMORY_SWAP,
        &[],
        or(resources.memory_swap_limit_in_bytes, 0),
    );
    emitter.add(&of::SPEC_MEMORY_RESERVATION, &[], protected.unwrap_or_default());
}
