//! Making folders, killing what runs in a group, and removing it: what v1 and v2 have in common.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Manager, file, hierarchy, v1};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{has_mark, set_mark};

/// Put on parents that didn't exist, so that they and no others are removed once they are empty.
const MARK: &std::ffi::CStr = c"trusted.pintle.made";

/// Attempts to make a folder whose parents others remove meanwhile.
const MAKE_ROUNDS: u32 = 20;

/// Rounds of killing: each kills everything that the one before left or forked.
const KILL_ROUNDS: u32 = 50;

/// Attempts to remove a folder; the waits between them grow to 50 ms, in all about 3 s.
const REMOVE_ROUNDS: u32 = 70;

/// Makes the group's folder in one hierarchy, with missing parents.
pub(super) fn make_folder(mount: &Path, path: &Path) -> Result<()> {
    let folder = mount.join(path);
    for _ in 0..MAKE_ROUNDS {
        match v1::mkdir(&folder) {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {}
            other => return other.map(|_| ()),
        }
        match make_parents(mount, path) {
            // the last user of a parent has just removed it
            Err(e) if e.errno() == Some(Errno::ENOENT) => {}
            other => other?,
        }
    }
    Err(Error::io("create cgroup", folder, Errno::ENOENT))
}

fn make_parents(mount: &Path, path: &Path) -> Result<()> {
    let mut parents: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .filter(|p| !p.as_os_str().is_empty())
        .collect();
    parents.reverse();
    for parent in parents {
        let parent = mount.join(parent);
        if v1::mkdir(&parent)? {
            // a mark that can't be set means only that the parent will be left behind
            let _ = set_mark(&parent, MARK);
        }
    }
    Ok(())
}

/// Sends SIGKILL to every process of the group and of those below it.
pub(super) fn kill_all(manager: &dyn Manager, path: &Path) -> Result<()> {
    if let Some(file) = manager.kill_file(path)
        && fs::write(&file, "1").is_ok()
    {
        thaw(manager, path);
        if manager.processes(path)?.is_empty() {
            return Ok(());
        }
    }
    for round in 0..KILL_ROUNDS {
        let pids = manager.processes(path)?;
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            // a process of another pid namespace reads as 0, which would mean our own group
            if pid.as_raw() > 0 {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        thaw(manager, path);
        if round > 0 {
            sleep(Duration::from_millis(u64::from(round.min(10))));
        }
    }
    Ok(())
}

/// On v1 a frozen process dies only once it is thawed.
pub(super) fn thaw(manager: &dyn Manager, path: &Path) {
    if manager.is_frozen(path) {
        // a group that vanished meanwhile needs no thawing
        let _ = manager.freeze(path, false);
    }
}

/// Kills, removes all folders bottom-up, then the parents that were made for this group. Runs to the end whatever
/// fails and reports the first failure.
pub(super) fn remove(manager: &dyn Manager, path: &Path) -> Result<()> {
    let mut first = None;
    for folder in manager.folders(path) {
        if let Err(e) = remove_folder(manager, path, &folder) {
            first.get_or_insert(e);
        }
    }
    for hierarchy in hierarchy::hierarchies() {
        remove_marked_parents(&hierarchy.mount, path);
    }
    first.map_or(Ok(()), Err)
}

fn remove_folder(manager: &dyn Manager, path: &Path, folder: &Path) -> Result<()> {
    for round in 0..REMOVE_ROUNDS {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            // EBUSY: processes or sub groups
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            Err(e) => return Err(e).path("remove cgroup", folder),
        }
        kill_all(manager, path)?;
        remove_below(folder);
        if round > 1 {
            sleep(Duration::from_millis(u64::from(round.min(50))));
        }
    }
    Err(Error::CgroupBusy {
        path: folder.to_owned(),
    })
}

/// Removes the groups below, deepest first. What resists is met again in the next round.
fn remove_below(folder: &Path) {
    let mut found = Vec::new();
    walk(folder, &mut found);
    for folder in found.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}

/// All folders below one, parents first. Depth and number are bounded by the kernel's own limits on cgroups; the
/// list is kept on the heap, so that a deep tree can't exhaust the stack.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut next = vec![folder.to_owned()];
    while let Some(folder) = next.pop() {
        // kernfs counts sub folders as links; most groups have none
        if fs::symlink_metadata(&folder).is_ok_and(|is| is.nlink() == 2) {
            continue;
        }
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                found.push(entry.path());
                next.push(entry.path());
            }
        }
    }
}

/// The processes of a folder and of those below. A folder that doesn't exist has none.
pub(super) fn collect_processes(folder: &Path, pids: &mut Vec<Pid>) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    walk(folder, &mut folders);
    for folder in folders {
        match file::read(&folder, "cgroup.procs") {
            Ok(text) => pids.extend(text.lines().filter_map(|l| l.parse().ok()).map(Pid::from_raw)),
            // gone, or a threaded group, whose processes its domain lists
            Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn remove_marked_parents(mount: &Path, path: &Path) {
    for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
        let parent = mount.join(parent);
        if !has_mark(&parent, MARK) || fs::remove_dir(&parent).is_err() {
            return;
        }
    }
}
