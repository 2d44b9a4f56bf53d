//! `linux.resources` in the files of cgroup v1.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::super::file;
use super::super::hierarchy::v1_folder;
use super::super::update::{ControlFile, control_files as files};
use super::missing;
use crate::error::{Error, Result};

/// Applies all but the device rules; returns what could not be done but may be done without.
pub(super) fn apply(path: &Path, resources: &LinuxResources) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(Error::invalid(
            "linux.resources.unified",
            "invalid configuration: this host has cgroup v1",
        ));
    }
    if let Some(memory) = resources.memory() {
        apply_memory(path, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        apply_cpu(path, cpu)?;
        apply_cpuset(path, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        let value = match pids.limit() {
            n if n < 0 => "max".to_owned(),
            0 => "1".to_owned(), // the kernel would refuse even the first fork; a container has one process
            n => n.to_string(),
        };
        file::write(&folder("pids", "linux.resources.pids", path)?, "pids.max", &value)?;
    }
    if let Some(io) = resources.block_io() {
        apply_block_io(path, io)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        // callers list every page size of the node, also where the controller is missing
        match v1_folder("hugetlb", path) {
            None if limit.limit() == 0 => {}
            None => warnings.push(format!(
                "no hugetlb cgroup: limit of {} pages not set",
                limit.page_size()
            )),
            Some(folder) => {
                let name = format!("hugetlb.{}.limit_in_bytes", limit.page_size());
                file::write(&folder, &name, &limit.limit().to_string())?;
                let reserved = format!("hugetlb.{}.rsvd.limit_in_bytes", limit.page_size());
                file::write_if_there(&folder, &reserved, &limit.limit().to_string())?;
            }
        }
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            let folder = folder("net_cls", "linux.resources.network.classID", path)?;
            file::write(&folder, "net_cls.classid", &class.to_string())?;
        }
        for priority in network.priorities().iter().flatten() {
            let folder = folder("net_prio", "linux.resources.network.priorities", path)?;
            file::write(
                &folder,
                "net_prio.ifpriomap",
                &format!("{} {}", priority.name(), priority.priority()),
            )?;
        }
    }
    Ok(warnings)
}

fn folder(controller: &str, field: &str, path: &Path) -> Result<PathBuf> {
    v1_folder(controller, path).ok_or_else(|| missing(controller, field))
}

/// What [`apply`] may write for these limits.
pub(super) fn control_files(path: &Path, resources: &LinuxResources) -> Vec<ControlFile> {
    let mut found = Vec::new();
    let mut add = |given: bool, controller: &str, names: &[&str]| {
        if let Some(folder) = v1_folder(controller, path).filter(|_| given) {
            found.extend(files(&folder, names));
        }
    };
    let names = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes",
    ];
    add(resources.memory().is_some(), "memory", &names);
    let names = [
        "cpu.shares",
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
        "cpu.cfs_burst_us",
        "cpu.idle",
    ];
    add(resources.cpu().is_some(), "cpu", &names);
    add(
        resources.cpu().is_some(),
        "cpuset",
        &["cpuset.cpus", "cpuset.mems"],
    );
    add(resources.pids().is_some(), "pids", &["pids.max"]);
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        let names = [
            format!("hugetlb.{size}.limit_in_bytes"),
            format!("hugetlb.{size}.rsvd.limit_in_bytes"),
        ];
        add(true, "hugetlb", &[&names[0], &names[1]]);
    }
    found
}

fn below_usage(limit: i64) -> Error {
    Error::invalid(
        "linux.resources.memory.limit",
        format!("{limit} is below what is in use"),
    )
}

/// The limit and the limit with swap must never cross, whichever way both move.
fn apply_memory(path: &Path, memory: &LinuxMemory) -> Result<()> {
    let folder = folder("memory", "linux.resources.memory", path)?;
    let (limit, mut swap) = (
        memory.limit().filter(|l| *l != 0),
        memory.swap().filter(|s| *s != 0),
    );
    if limit == Some(-1) && swap.is_none() {
        swap = Some(-1);
    }
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap >= 0
        && limit > swap
    {
        let reason = format!("{swap} is below memory.limit {limit}");
        return Err(Error::invalid("linux.resources.memory.swap", reason));
    }
    if memory.check_before_update().unwrap_or(false)
        && let (Some(limit @ 1..), Ok(usage)) = (limit, file::read(&folder, "memory.usage_in_bytes"))
        && usage.parse::<i64>().is_ok_and(|usage| usage > limit)
    {
        return Err(below_usage(limit));
    }
    let set_limit = || {
        let Some(limit) = limit else { return Ok(()) };
        file::write(&folder, "memory.limit_in_bytes", &limit.to_string()).map_err(|e| match e.errno() {
            Some(Errno::EBUSY) => below_usage(limit),
            _ => e,
        })
    };
    let set_swap = || {
        let Some(swap) = swap else { return Ok(()) };
        write_swap(&folder, swap).map_err(|e| match e.errno() {
            Some(Errno::EBUSY) => Error::invalid(
                "linux.resources.memory.swap",
                format!("{swap} is below what is in use"),
            ),
            _ => e,
        })
    };
    let now: u64 = file::read(&folder, "memory.limit_in_bytes")?
        .parse()
        .unwrap_or(u64::MAX);
    if swap.is_some_and(|swap| u64::try_from(swap).is_ok_and(|swap| now > swap)) {
        set_limit()?; // both go down
        set_swap()?;
    } else {
        set_swap()?;
        set_limit()?;
    }
    if let Some(n) = memory.reservation().filter(|n| *n != 0) {
        file::write(&folder, "memory.soft_limit_in_bytes", &n.to_string())?;
    }
    if let Some(n) = memory.kernel_tcp().filter(|n| *n != 0) {
        file::write(&folder, "memory.kmem.tcp.limit_in_bytes", &n.to_string())?;
    }
    if memory.disable_oom_killer().unwrap_or(false) {
        file::write(&folder, "memory.oom_control", "1")?;
    }
    match memory.swappiness() {
        None => Ok(()),
        Some(n @ 0..=100) => file::write(&folder, "memory.swappiness", &n.to_string()),
        Some(n) => Err(Error::invalid(
            "linux.resources.memory.swappiness",
            format!("{n} is not within 0..100"),
        )),
    }
}

/// A kernel without swap accounting has no such file; a limit on swap that nobody counts is then no limit.
fn write_swap(folder: &Path, swap: i64) -> Result<()> {
    file::write_if_there(folder, "memory.memsw.limit_in_bytes", &swap.to_string()).map(|_| ())
}

fn apply_cpu(path: &Path, cpu: &LinuxCpu) -> Result<()> {
    let any = cpu.shares().is_some()
        || cpu.quota().is_some()
        || cpu.period().is_some()
        || cpu.realtime_runtime().is_some()
        || cpu.realtime_period().is_some()
        || cpu.idle().is_some()
        || cpu.burst().is_some();
    if !any {
        return Ok(());
    }
    let folder = folder("cpu", "linux.resources.cpu", path)?;
    apply_realtime(&folder, cpu)?;
    if let Some(n) = cpu.shares().filter(|n| *n != 0) {
        file::write(&folder, "cpu.shares", &n.to_string())?;
    }
    let period = cpu.period().filter(|n| *n != 0);
    let quota = cpu.quota().filter(|n| *n != 0);
    if let Some(period) = period {
        match file::write(&folder, "cpu.cfs_period_us", &period.to_string()) {
            // the present quota may be too large a part of a shorter period: then the quota goes first
            Err(e) if e.errno() == Some(Errno::EINVAL) && quota.is_some() => {
                write_quota(&folder, quota)?;
                file::write(&folder, "cpu.cfs_period_us", &period.to_string())?;
            }
            other => other?,
        }
    }
    write_quota(&folder, quota)?;
    if let Some(n) = cpu.burst() {
        file::write(&folder, "cpu.cfs_burst_us", &n.to_string())?;
    }
    if let Some(n) = cpu.idle() {
        file::write(&folder, "cpu.idle", &n.to_string())?;
    }
    Ok(())
}

fn write_quota(folder: &Path, quota: Option<i64>) -> Result<()> {
    quota.map_or(Ok(()), |quota| {
        file::write(folder, "cpu.cfs_quota_us", &quota.max(-1).to_string())
    })
}

/// Each must fit the other as it is at that moment: which of them goes first depends on both.
fn apply_realtime(folder: &Path, cpu: &LinuxCpu) -> Result<()> {
    let set = |name: &str, value: Option<String>| match value {
        Some(value) => file::write(folder, name, &value),
        None => Ok(()),
    };
    let period = cpu.realtime_period().filter(|n| *n != 0).map(|n| n.to_string());
    let runtime = cpu.realtime_runtime().filter(|n| *n != 0).map(|n| n.to_string());
    match set("cpu.rt_period_us", period.clone()) {
        Err(e) if e.errno() == Some(Errno::EINVAL) && runtime.is_some() => {
            set("cpu.rt_runtime_us", runtime)?;
            set("cpu.rt_period_us", period)
        }
        other => other.and_then(|()| set("cpu.rt_runtime_us", runtime)),
    }
}

fn apply_cpuset(path: &Path, cpu: &LinuxCpu) -> Result<()> {
    for (name, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            file::write(&folder("cpuset", "linux.resources.cpu.cpus", path)?, name, value)?;
        }
    }
    Ok(())
}

fn apply_block_io(path: &Path, io: &LinuxBlockIo) -> Result<()> {
    let folder = folder("blkio", "linux.resources.blockIO", path)?;
    if let Some(weight) = io.weight().filter(|w| *w != 0) {
        // BFQ's file where that scheduler is built in, CFQ's on old kernels
        if !file::write_if_there(&folder, "blkio.bfq.weight", &weight.to_string())? {
            file::write(&folder, "blkio.weight", &weight.to_string())?;
        }
    }
    if let Some(weight) = io.leaf_weight().filter(|w| *w != 0) {
        file::write(&folder, "blkio.leaf_weight", &weight.to_string())?;
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            if !file::write_if_there(&folder, "blkio.bfq.weight_device", &line)? {
                file::write(&folder, "blkio.weight_device", &line)?;
            }
        }
    }
    throttle(
        &folder,
        "blkio.throttle.read_bps_device",
        io.throttle_read_bps_device(),
    )?;
    throttle(
        &folder,
        "blkio.throttle.write_bps_device",
        io.throttle_write_bps_device(),
    )?;
    throttle(
        &folder,
        "blkio.throttle.read_iops_device",
        io.throttle_read_iops_device(),
    )?;
    throttle(
        &folder,
        "blkio.throttle.write_iops_device",
        io.throttle_write_iops_device(),
    )
}

fn throttle(folder: &Path, name: &str, devices: &Option<Vec<LinuxThrottleDevice>>) -> Result<()> {
    for device in devices.iter().flatten() {
        let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
        file::write(folder, name, &line)?;
    }
    Ok(())
}
