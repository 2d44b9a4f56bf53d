//! What a process and a folder take.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// A process by its id.
pub(crate) struct Process(pub(crate) i32);

impl Process {
    /// User and system time so far, with that of children that have ended.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let rest = text.rsplit(')').next().context("a stat line")?;
        let ticks: u64 = rest
            .split_whitespace()
            .skip(11)
            .take(4)
            .filter_map(|tick| tick.parse::<u64>().ok())
            .sum();
        // USER_HZ is 100 on every architecture that matters here.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Begins to look for the peak anew (proc_pid_clear_refs(5)).
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.0), "5")?)
    }

    /// The largest resident set since then, in KiB.
    pub(crate) fn peak(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = text
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .context("VmHWM")?;
        Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
    }
}

/// Bytes of the disk below a folder, without one of its folders.
pub(crate) fn disk(folder: &Path, without: &Path) -> u64 {
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    let mut linked = std::collections::HashSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(stat) = path.symlink_metadata() else {
                continue;
            };
            if path == without || (stat.nlink() > 1 && !stat.is_dir() && !linked.insert(stat.ino())) {
                continue;
            }
            total += stat.blocks() * 512;
            if stat.is_dir() {
                folders.push(path);
            }
        }
    }
    total
}
