//! cgroup v1: a hierarchy for each controller, and the cgroup2 tree beside them on hybrid hosts.

mod resources;
mod stats;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::hierarchy::{Hierarchy, hierarchies, v1_folder};
use super::{ControlFile, Depth, Manager, Reader, Stats, devices, file, remove};
use crate::error::{Context, Error, Result};

pub(super) struct V1;

impl Manager for V1 {
    fn create(&self, path: &Path) -> Result<()> {
        for hierarchy in hierarchies() {
            let folder = hierarchy.mount.join(path);
            remove::make_folder(&hierarchy.mount, path)?;
            if hierarchy.controllers.iter().any(|c| c == "cpuset") {
                fill_cpuset(&hierarchy.mount, &folder)?;
            }
        }
        Ok(())
    }

    fn apply(&self, path: &Path, resources: &LinuxResources) -> Result<Vec<String>> {
        resources::apply(path, resources)
    }

    fn make_room(&self, _: &Path, _: &LinuxResources) -> Result<()> {
        Ok(()) // v1 frees what it can when the limit is written, and refuses (EBUSY) where that doesn't suffice
    }

    fn control_files(&self, path: &Path, resources: &LinuxResources) -> Vec<ControlFile> {
        resources::control_files(path, resources)
    }

    fn apply_devices(&self, path: &Path, resources: &LinuxResources) -> Result<()> {
        let given = resources.devices().as_deref().unwrap_or_default();
        let rules = devices::rules(given)?;
        // "a" resets everything before it
        let start = rules.iter().rposition(devices::Rule::is_everything).unwrap_or(0);
        let Some(folder) = v1_folder("devices", path) else {
            return Err(missing("devices", "linux.resources.devices"));
        };
        if rules[start].allow {
            // a group that is new allows everything; one that a hook has narrowed is opened again
            file::write(&folder, "devices.allow", "a")?;
        } else {
            file::write(&folder, "devices.deny", "a")?;
        }
        // runs of allow and of deny keep their order
        for run in rules[start + 1..].chunk_by(|a, b| a.allow == b.allow) {
            if run[0].allow && rules[start].allow && rules[start + 1..].iter().all(|r| r.allow) {
                continue; // all is allowed already
            }
            let lines: Vec<String> = run.iter().flat_map(devices::Rule::v1_lines).collect();
            file::write_each(
                &folder,
                if run[0].allow {
                    "devices.allow"
                } else {
                    "devices.deny"
                },
                &lines,
            )?;
        }
        Ok(())
    }

    fn join(&self, path: &Path, pid: Pid) -> Result<()> {
        let pid = pid.as_raw().to_string();
        for hierarchy in hierarchies() {
            match file::write(&hierarchy.mount.join(path), "cgroup.procs", &pid) {
                // a hierarchy that was mounted after the group was made has nothing to join
                Err(e) if e.errno() == Some(Errno::ENOENT) && !is_required(hierarchy) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn processes(&self, path: &Path) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        for folder in self.folders(path) {
            remove::collect_processes(&folder, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    fn stats(&self, of: &mut Reader, depth: Depth) -> Result<Stats> {
        stats::read(of, depth)
    }

    fn oom_kills(&self, path: &Path) -> Option<u64> {
        v1_folder("memory", path).and_then(|folder| file::counter(&folder, "memory.oom_control", "oom_kill"))
    }

    fn oom_kills_below(&self, _: &Path) -> Option<u64> {
        None // v1 counts each group's alone
    }

    fn freeze(&self, path: &Path, frozen: bool) -> Result<()> {
        let Some(folder) = v1_folder("freezer", path) else {
            return Err(missing("freezer", "pause"));
        };
        file::write(&folder, "freezer.state", if frozen { "FROZEN" } else { "THAWED" })
    }

    fn is_frozen(&self, path: &Path) -> bool {
        v1_folder("freezer", path)
            .and_then(|folder| file::read(&folder, "freezer.state").ok())
            .is_some_and(|state| state != "THAWED")
    }

    fn has_stopped(&self, path: &Path) -> bool {
        v1_folder("freezer", path)
            .and_then(|folder| file::read(&folder, "freezer.state").ok())
            .is_some_and(|state| state == "FROZEN")
    }

    fn folders(&self, path: &Path) -> Vec<PathBuf> {
        hierarchies().iter().map(|h| h.mount.join(path)).collect()
    }

    fn kill_file(&self, path: &Path) -> Option<PathBuf> {
        hierarchies()
            .iter()
            .find(|h| h.v2)
            .map(|h| h.mount.join(path).join("cgroup.kill"))
    }
}

/// Whether a process must be in this hierarchy's group for its limits to hold.
fn is_required(hierarchy: &Hierarchy) -> bool {
    !hierarchy.v2 && !hierarchy.controllers.iter().all(|c| c.starts_with("name="))
}

fn missing(controller: &str, field: &str) -> Error {
    Error::invalid(field, format!("this host has no {controller} cgroup controller"))
}

/// Fills a new group's `cpuset.cpus` and `cpuset.mems`, without which no process can join, from its parents'.
fn fill_cpuset(mount: &Path, folder: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        inherit(mount, folder, name)?;
    }
    Ok(())
}

fn inherit(mount: &Path, folder: &Path, name: &str) -> Result<String> {
    let own = file::read(folder, name)?;
    if !own.is_empty() || folder == mount {
        return Ok(own);
    }
    let Some(parent) = folder.parent() else {
        return Ok(own);
    };
    let value = inherit(mount, parent, name)?;
    file::write(folder, name, &value)?;
    Ok(value)
}

/// mkdir that accepts what is there.
pub(super) fn mkdir(folder: &Path) -> Result<bool> {
    match std::fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e).path("create cgroup", folder),
    }
}
