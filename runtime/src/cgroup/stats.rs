//! What a group has used, by the same types for v1 and v2.
//!
//! Reading is asked for often and for all groups of a node. A [`Reader`] keeps the files of one group open that are read each
//! time: at most ten, on v2.

mod folder;
mod parse;

use std::path::{Path, PathBuf};

pub(super) use folder::Folder;
pub(super) use parse::{number, pressure, table};

use super::manager;
use crate::error::Result;

/// Reads one group's statistics, again and again.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    folders: Vec<(&'static str, Folder)>,
}

impl Reader {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            folders: Vec::new(),
        }
    }

    /// What the group and those below it have used.
    ///
    /// # Errors
    /// Errno ENOENT or ENODEV where there is no such group, or no longer.
    pub fn stats(&mut self, depth: Depth) -> Result<Stats> {
        manager().stats(self, depth)
    }

    /// The group's folder under a hierarchy of this name; None where `find` knows none.
    pub(super) fn folder(
        &mut self,
        name: &'static str,
        find: impl FnOnce(&Path) -> Option<PathBuf>,
    ) -> Option<&mut Folder> {
        let at = match self.folders.iter().position(|(known, _)| *known == name) {
            Some(at) => at,
            None => {
                self.folders.push((name, Folder::new(find(&self.path)?)));
                self.folders.len() - 1
            }
        };
        Some(&mut self.folders[at].1)
    }
}

/// How much of a group's statistics is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Processor time, memory, swap, tasks and pressure.
    Usage,
    /// All there is.
    Everything,
}

/// A group's statistics, with those of all groups below it. What this host doesn't count is None or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory and swap; None without the memory controller.
    pub memory: Option<Memory>,
    /// Tasks, that is processes and threads; None without the pids controller.
    pub pids: Option<Pids>,
    /// Block devices; with [`Depth::Everything`] only.
    pub io: Vec<Device>,
    /// Huge pages; with [`Depth::Everything`] only.
    pub hugetlb: Vec<Hugetlb>,
    /// Pressure stall information.
    pub pressure: Pressure,
}

/// Processor time (cpuacct and cpu of v1, `cpu.stat` of v2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Nanoseconds over all cores.
    pub usage: u64,
    /// Nanoseconds in programs.
    pub user: u64,
    /// Nanoseconds in the kernel.
    pub system: u64,
    /// How the quota was felt; with [`Depth::Everything`] only.
    pub throttling: Option<Throttling>,
}

/// What a quota of processor time has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the group ran.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled_periods: u64,
    /// Nanoseconds for which it was held back.
    pub throttled: u64,
}

/// Memory; all sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is charged, with page cache.
    pub usage: u64,
    /// The limit, if there is one; of v1 also one of a group above.
    pub limit: Option<u64>,
    /// Usage less what can be had back without loss (inactive file pages).
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Mapped files.
    pub mapped_file: u64,
    /// The kernel's own for this group, where it is counted.
    pub kernel: Option<u64>,
    /// The most that was ever used, where it is counted; with [`Depth::Everything`] only.
    pub peak: Option<u64>,
    /// How often the limit was hit; with [`Depth::Everything`] only.
    pub limit_hits: Option<u64>,
    /// How many processes the kernel has killed for lack of memory; with [`Depth::Everything`] only.
    pub oom_kills: Option<u64>,
    /// Page faults.
    pub faults: u64,
    /// Page faults that needed the disk.
    pub major_faults: u64,
    /// Swap, where it is counted.
    pub swap: Option<Swap>,
}

/// Swap space, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swap {
    /// In use.
    pub usage: u64,
    /// The limit of swap alone, if there is one.
    pub limit: Option<u64>,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// Processes and threads now.
    pub current: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// What went through a block device, since the group was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hugetlb {
    /// As in the name of the control file: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes now.
    pub usage: u64,
    /// The most that was ever used, where it is counted.
    pub peak: Option<u64>,
}

/// Pressure stall information of a group, each None where the kernel doesn't count it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Waiting for a processor.
    pub cpu: Option<Psi>,
    /// Waiting for memory.
    pub memory: Option<Psi>,
    /// Waiting for block devices.
    pub io: Option<Psi>,
}

/// One pressure file (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Psi {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited; old kernels have no such line for the processor.
    pub full: Option<Stall>,
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last 60 seconds.
    pub avg60: f64,
    /// Percent of the last 300 seconds.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}
