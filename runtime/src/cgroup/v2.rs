//! cgroup v2: one tree, controllers handed down level by level.

mod bpf;
mod resources;
mod stats;

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::hierarchy::{ROOT, hierarchies};
use super::{ControlFile, Depth, Manager, Reader, Stats, devices, file, remove};
use crate::error::Result;

pub(super) use resources::{io_weight, swap_max, weight_of_shares};
pub(super) use stats::read_pressure;

pub(super) struct V2;

impl Manager for V2 {
    fn create(&self, path: &Path) -> Result<()> {
        remove::make_folder(mount(), path)?;
        hand_down(mount(), path)
    }

    fn apply(&self, path: &Path, resources: &LinuxResources) -> Result<Vec<String>> {
        resources::apply(&mount().join(path), resources)
    }

    fn make_room(&self, path: &Path, resources: &LinuxResources) -> Result<()> {
        resources::make_room(&mount().join(path), resources)
    }

    fn control_files(&self, path: &Path, resources: &LinuxResources) -> Vec<ControlFile> {
        resources::control_files(&mount().join(path), resources)
    }

    fn apply_devices(&self, path: &Path, resources: &LinuxResources) -> Result<()> {
        let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
        bpf::attach(&mount().join(path), &rules)
    }

    fn join(&self, path: &Path, pid: Pid) -> Result<()> {
        file::write(&mount().join(path), "cgroup.procs", &pid.as_raw().to_string())
    }

    fn processes(&self, path: &Path) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        remove::collect_processes(&mount().join(path), &mut pids)?;
        Ok(pids)
    }

    fn stats(&self, of: &mut Reader, depth: Depth) -> Result<Stats> {
        stats::read(of, depth)
    }

    fn oom_kills(&self, path: &Path) -> Option<u64> {
        let folder = mount().join(path);
        // before Linux 5.2 there are only the counters that include the groups below
        file::counter(&folder, "memory.events.local", "oom_kill")
            .or_else(|| file::counter(&folder, "memory.events", "oom_kill"))
    }

    fn oom_kills_below(&self, path: &Path) -> Option<u64> {
        file::counter(&mount().join(path), "memory.events", "oom_kill")
    }

    fn freeze(&self, path: &Path, frozen: bool) -> Result<()> {
        file::write(
            &mount().join(path),
            "cgroup.freeze",
            if frozen { "1" } else { "0" },
        )
    }

    fn is_frozen(&self, path: &Path) -> bool {
        file::read(&mount().join(path), "cgroup.freeze").is_ok_and(|v| v == "1")
    }

    fn has_stopped(&self, path: &Path) -> bool {
        file::counter(&mount().join(path), "cgroup.events", "frozen") == Some(1)
    }

    fn folders(&self, path: &Path) -> Vec<PathBuf> {
        vec![mount().join(path)]
    }

    fn kill_file(&self, path: &Path) -> Option<PathBuf> {
        Some(mount().join(path).join("cgroup.kill"))
    }
}

/// Where the tree is mounted.
fn mount() -> &'static Path {
    hierarchies()
        .iter()
        .find(|h| h.v2)
        .map_or(Path::new(ROOT), |h| &h.mount)
}

/// Enables in every group above `path` the controllers that it has, so that the next one has them too.
///
/// A group that holds processes can't hand controllers down (EBUSY); that is no failure by itself: if a limit
/// needs the controller, writing the limit tells.
fn hand_down(mount: &Path, path: &Path) -> Result<()> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
    parents.reverse();
    for parent in parents {
        let folder = mount.join(parent);
        let (has, enabled) = (
            file::read(&folder, "cgroup.controllers")?,
            file::read(&folder, "cgroup.subtree_control")?,
        );
        let wanted: Vec<String> = has
            .split_whitespace()
            .filter(|c| !enabled.split_whitespace().any(|e| e == *c))
            .map(|c| format!("+{c}"))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        // all at once, or, where one refuses, each by itself
        if file::write(&folder, "cgroup.subtree_control", &wanted.join(" ")).is_err() {
            for controller in &wanted {
                let _ = file::write(&folder, "cgroup.subtree_control", controller);
            }
        }
    }
    Ok(())
}
