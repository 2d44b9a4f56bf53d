//! Counts what a slot holds on the host, to compare before and after.
//!
//! Only what carries the slot's names is counted, so that tests side by side do not see one another: mounts below its
//! folders or made of them, pinned and held network namespaces, ports of its bridge, addresses in its subnet (in routes
//! and firewall), cgroups below its own, processes in those or named by its folders, and every file of the daemon's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::host;
use crate::server::Server;
use crate::slot::Slot;

/// How long the kernel and dying processes may take to let go of things after the last answer.
const SETTLE: Duration = Duration::from_secs(5);

/// Everything counted, each thing as a line that says what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    things: BTreeSet<String>,
}

impl Count {
    /// Counts now.
    pub fn take(slot: &Slot, server: &Server) -> Result<Count> {
        let mut things = BTreeSet::new();
        add_mounts(slot, &mut things)?;
        let daemon = server.pid().ok();
        if let Some(pid) = daemon {
            add_held_namespaces(pid, &mut things);
        }
        things.extend(
            host::bridge_ports(&slot.bridge())
                .into_iter()
                .map(|port| format!("bridge port {port}")),
        );
        add_addresses(slot, &mut things);
        let cgroups = host::cgroups_below(&slot.cgroup())?;
        things.extend(
            cgroups
                .into_iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
        add_processes(slot, daemon, &mut things);
        for folder in [slot.state(), slot.root().join("daemon"), slot.root().join("ipam")] {
            add_files(&folder, &mut things);
        }
        Ok(Count { things })
    }

    /// Things of `later` that were not there before.
    pub fn grown(&self, later: &Count) -> Vec<String> {
        later.things.difference(&self.things).cloned().collect()
    }

    /// Fails with a list if there is more now than when `self` was taken. What goes within a moment is no leak.
    pub async fn assert_not_grown(&self, slot: &Slot, server: &Server) -> Result<()> {
        let start = Instant::now();
        loop {
            let grown = self.grown(&Count::take(slot, server)?);
            if grown.is_empty() {
                return Ok(());
            }
            if start.elapsed() > SETTLE {
                bail!("left behind, {} things:\n{}", grown.len(), grown.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn add_mounts(slot: &Slot, things: &mut BTreeSet<String>) -> Result<()> {
    let folders = [slot.state(), slot.root()];
    for mount in host::mounts("self")? {
        let inside = folders.iter().any(|f| mount.target.starts_with(f));
        let made_of = folders
            .iter()
            .any(|f| mount.options.contains(&format!("{}/", f.display())));
        if inside || made_of {
            things.insert(format!(
                "mount {} {} at {}",
                mount.fs_type,
                mount.fs_root,
                mount.target.display()
            ));
        }
    }
    Ok(())
}

/// Network namespaces that live on only because the daemon has them open.
fn add_held_namespaces(daemon: i32, things: &mut BTreeSet<String>) {
    let entries = fs::read_dir(format!("/proc/{daemon}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let namespaces = targets.filter(|t| t.to_string_lossy().starts_with("net:["));
    things.extend(namespaces.map(|t| format!("open namespace {}", t.display())));
}

fn add_addresses(slot: &Slot, things: &mut BTreeSet<String>) {
    let prefix = slot.subnet_prefix();
    let gateway = format!("{prefix}0.1");
    for line in host::run("ip", &["-4", "route", "show", "table", "all"])
        .unwrap_or_default()
        .lines()
    {
        // The bridge's own routes stay as long as the bridge.
        if line.contains(&prefix) && !line.contains(&gateway) {
            things.insert(format!("route {}", line.trim()));
        }
    }
    things.extend(
        host::firewall_words(&prefix)
            .into_iter()
            .map(|word| format!("firewall {word}")),
    );
}

fn add_processes(slot: &Slot, daemon: Option<i32>, things: &mut BTreeSet<String>) {
    let mut pids: BTreeSet<i32> = host::pids_in_cgroup(&slot.cgroup()).into_iter().collect();
    pids.extend(host::pids_naming(&slot.state()));
    pids.retain(|pid| Some(*pid) != daemon);
    things.extend(
        pids.into_iter()
            .map(|pid| format!("process {pid} {}", host::cmdline(pid))),
    );
}

fn add_files(folder: &Path, things: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        things.insert(format!("file {}", entry.path().display()));
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            add_files(&entry.path(), things);
        }
    }
}
