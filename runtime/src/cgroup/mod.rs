//! Control groups: one trait over v1 (also hybrid) and v2, free functions on paths, and a container's handle.
//!
//! Paths are relative to each hierarchy's mount point: `/kubepods/pod1/c1` is
//! `/sys/fs/cgroup/cpu/kubepods/pod1/c1` and so on in every v1 hierarchy, and in the cgroup2 tree that a hybrid host
//! has beside them; on v2 it is `/sys/fs/cgroup/kubepods/pod1/c1`.
//!
//! This is code of our own rather than `cgroups-rs`, because that crate carries a D-Bus client with an async
//! runtime into every process that uses it (a monitor lies in memory once a pod), reads the mount table
//! anew for every group, and has neither `cgroup.kill`, nor hybrid hosts, nor marks on the parents that it makes. It is the
//! independent witness of `tests/cgroups_witness.rs`: what this room writes it must read alike.

mod devices;
mod entry;
mod file;
mod freeze;
mod hierarchy;
mod oom;
mod remove;
mod stats;
mod systemd;
mod update;
mod v1;
mod v2;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

pub(crate) use entry::{Below, Entry};
pub use hierarchy::{Hierarchy, Mode, detect, hierarchies};
pub use oom::OomWatch;
pub use stats::{
    Cpu, Depth, Device, Hugetlb, Memory, Pids, Pressure, Psi, Reader, Stall, Stats, Swap, Throttling,
};

pub use systemd::is_booted as systemd_is_booted;
pub use update::{Change, ControlFile};

use crate::error::{Error, Result};
use systemd::Scope;

/// What a container needs of its cgroup. `path` is always relative to the hierarchies' roots.
pub trait Manager {
    /// Makes the group, with missing parents, so that processes can join it.
    fn create(&self, path: &Path) -> Result<()>;
    /// Applies limits. What isn't given stays as it is.
    fn apply(&self, path: &Path, resources: &LinuxResources) -> Result<Vec<String>>;
    /// Frees memory where a new limit is below what is used; fails where that doesn't suffice, before the kernel kills
    /// for it.
    fn make_room(&self, path: &Path, resources: &LinuxResources) -> Result<()>;
    /// The files that [`Manager::apply`] would write for these limits, as far as it can be known.
    fn control_files(&self, path: &Path, resources: &LinuxResources) -> Vec<ControlFile>;
    /// Sets which devices may be used: everything is denied but what the rules and the standard devices allow.
    fn apply_devices(&self, path: &Path, resources: &LinuxResources) -> Result<()>;
    /// Moves a process into the group; pid 0 is the caller.
    fn join(&self, path: &Path, pid: Pid) -> Result<()>;
    /// Processes of the group and of all below it.
    fn processes(&self, path: &Path) -> Result<Vec<Pid>>;
    /// What the group and those below it have used.
    fn stats(&self, of: &mut Reader, depth: Depth) -> Result<Stats>;
    /// How many processes of the group itself the kernel has killed for lack of memory. None: there is no such group.
    fn oom_kills(&self, path: &Path) -> Option<u64>;
    /// As [`Manager::oom_kills`], with the groups below and those that were there. None: nobody counts them.
    fn oom_kills_below(&self, path: &Path) -> Option<u64>;
    /// Stops or resumes all processes.
    fn freeze(&self, path: &Path, frozen: bool) -> Result<()>;
    /// Whether it is to be stopped.
    fn is_frozen(&self, path: &Path) -> bool;
    /// Whether all of its processes have stopped, which they do a little later.
    fn has_stopped(&self, path: &Path) -> bool;
    /// The folders of the group, one for each hierarchy, whether they exist or not.
    fn folders(&self, path: &Path) -> Vec<PathBuf>;
    /// The folder whose `cgroup.kill` kills the group, where the kernel has that.
    fn kill_file(&self, path: &Path) -> Option<PathBuf>;
}

/// The manager that fits this host.
pub fn manager() -> &'static dyn Manager {
    match detect() {
        Mode::V1 => &v1::V1,
        Mode::V2 => &v2::V2,
    }
}

/// Makes a group in every hierarchy, with missing parents; one that exists already is fine.
pub fn create(path: &str) -> Result<()> {
    manager().create(&checked(path)?)
}

/// Kills what runs in a group, removes it with all below it, and the parents that were made for it and are
/// empty. A group that doesn't exist is fine. One of systemd's is forgotten by systemd when this returns.
pub fn remove(name: &str) -> Result<()> {
    let handle = Handle::new(name)?;
    handle.remove()?;
    match &handle.scope {
        Some(scope) => systemd::stop(&scope.name),
        None => Ok(()),
    }
}

/// Has systemd make a slice, by its path. One that is there already is fine.
pub fn create_slice(path: &str) -> Result<()> {
    let path = checked(path)?;
    let name = slice_at(&path)?;
    match manager().folders(&path).iter().any(|folder| folder.is_dir()) {
        true => Ok(()),
        false => systemd::start_slice(name),
    }
}

/// As [`remove`] for a slice of systemd's, by its path.
pub fn remove_slice(path: &str) -> Result<()> {
    let path = checked(path)?;
    let name = slice_at(&path)?;
    remove::remove(manager(), &path)?;
    systemd::stop(name)
}

fn slice_at(path: &Path) -> Result<&str> {
    systemd::slice_at(path)
        .ok_or_else(|| Error::invalid("slice", format!("{path:?} is not the place of a slice")))
}

/// A container's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    path: PathBuf,
    /// The unit that systemd makes it as; without one it is made here.
    scope: Option<Scope>,
}

impl Handle {
    /// The group of this name, a path or systemd's `slice:prefix:name`; nothing is made.
    pub fn new(name: &str) -> Result<Self> {
        let scope = Scope::parse(name)?;
        let path = match &scope {
            Some(scope) => scope.path(),
            None => checked(name)?,
        };
        Ok(Self { path, scope })
    }

    /// With the properties of its unit that annotations ask for, `org.systemd.property.*`, if systemd is to make it.
    pub(crate) fn annotated(mut self, annotations: &HashMap<String, String>) -> Result<Self> {
        if let Some(scope) = &mut self.scope {
            scope.annotated(annotations)?;
        }
        Ok(self)
    }

    /// The name by which [`Handle::new`] finds it again.
    pub fn name(&self) -> &Path {
        match &self.scope {
            Some(scope) => Path::new(scope.text()),
            None => &self.path,
        }
    }

    /// Whether systemd makes it, as a process is put in.
    pub fn is_systemds(&self) -> bool {
        self.scope.is_some()
    }

    /// Refuses a group that is in use or frozen. One that doesn't exist, or is empty, will do.
    pub(crate) fn check_unused(&self) -> Result<()> {
        if !manager().folders(&self.path).iter().any(|folder| folder.exists()) {
            return Ok(());
        }
        let refuse = |why: &str| {
            let reason = format!("container's cgroup {why}");
            Err(Error::invalid("linux.cgroupsPath", reason))
        };
        if self.is_frozen() {
            return refuse("unexpectedly frozen");
        }
        if !self.processes()?.is_empty() {
            return refuse("is not empty");
        }
        Ok(())
    }

    /// Makes it; one of systemd's is made when a process is [admitted](Handle::admit).
    pub(crate) fn create(&self) -> Result<()> {
        manager().create(&self.path)
    }

    /// Puts a process in from outside, and has systemd make the group for it where it is systemd's. Either takes long.
    pub(crate) fn admit(&self, pid: Pid, resources: &LinuxResources) -> Result<()> {
        let Some(scope) = &self.scope else {
            return self.join(pid);
        };
        systemd::start(scope, pid, resources)?;
        // made anywhere else it would hold nothing, and limit nothing
        if !manager().folders(&self.path).iter().any(|folder| folder.is_dir()) {
            return Err(Error::io(
                "find the group that systemd made at",
                &self.path,
                Errno::ENOENT,
            ));
        }
        // systemd keeps to its own hierarchies on v1, and to its own controllers on v2
        self.create()?;
        self.limit_devices(resources)?;
        match detect() {
            Mode::V1 => self.join(pid),
            Mode::V2 => Ok(()),
        }
    }

    /// Sets which devices may be used in it. To be done before a process joins that makes nodes: for a moment v1 forbids
    /// even that.
    pub(crate) fn limit_devices(&self, resources: &LinuxResources) -> Result<()> {
        manager().apply_devices(&self.path, resources)
    }

    /// Its path, relative to the hierarchies' roots.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Resumes it if it is frozen: a killed process may not end before.
    pub(crate) fn thaw(&self) {
        remove::thaw(manager(), &self.path);
    }

    /// Kills every process in the group and below, also frozen ones. Returns when all have been signalled.
    pub fn kill_all(&self) -> Result<()> {
        remove::kill_all(manager(), &self.path)
    }

    /// How many of its processes the kernel has killed for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        manager().oom_kills(&self.path).unwrap_or(0)
    }

    /// Begins to watch for such kills, to be asked when its init has ended.
    pub fn oom_watch(&self) -> OomWatch {
        OomWatch::begin(self)
    }

    /// What the group and those below it have used.
    ///
    /// # Errors
    /// Errno ENOENT or ENODEV where there is no such group, or no longer.
    pub fn stats(&self, depth: Depth) -> Result<Stats> {
        self.reader().stats(depth)
    }

    /// Reads the group's statistics again and again; nothing is opened yet.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.path)
    }

    /// Kills what is inside and removes the group, see [`remove`]; systemd isn't waited for, which finds it gone.
    pub fn remove(&self) -> Result<()> {
        remove::remove(manager(), &self.path)
    }

    /// The pids inside, as the caller's pid namespace sees them.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        manager().processes(&self.path)
    }

    /// Moves a process into the group; pid 0 is the caller. On a busy host this takes long, see [`Handle::entry`].
    pub fn join(&self, pid: Pid) -> Result<()> {
        manager().join(&self.path, pid)
    }

    /// Opens the doors through which a process can enter by itself at once. The group must exist.
    pub(crate) fn entry(&self) -> Result<Entry> {
        self.entry_below(&[])
    }

    /// As [`Handle::entry`], but in some hierarchies to groups below it.
    pub(crate) fn entry_below(&self, below: &[Below]) -> Result<Entry> {
        Entry::open(&self.path, below)
    }

    /// As [`Handle::entry`], but in the cgroup2 tree beside a process below: a group that has handed controllers down
    /// takes in no processes itself.
    pub(crate) fn entry_beside(&self, pid: Pid) -> Result<Entry> {
        Entry::open_beside(&self.path, pid)
    }

    /// Sets the limits of a group whose init waits to be started. Less memory than it needs itself is refused, before
    /// the kernel kills it for that. Returns warnings.
    pub(crate) fn limit(&self, resources: &LinuxResources) -> Result<Vec<String>> {
        manager().make_room(&self.path, resources)?;
        self.update(resources)
    }

    /// Sets or changes limits other than devices; what isn't given stays. Returns warnings.
    pub fn update(&self, resources: &LinuxResources) -> Result<Vec<String>> {
        self.tell_systemd(resources)?;
        manager().apply(&self.path, resources)
    }

    /// As [`Handle::update`] of a group that lives: all limits change, or none does. A limit of memory below what is in
    /// use and can't be had back is refused.
    ///
    /// # Errors
    /// [`Error::HalfDone`] where not even the former limits could be set again.
    pub fn change(&self, resources: &LinuxResources) -> Result<Change> {
        let tell = |resources: &LinuxResources| self.tell_systemd(resources);
        update::update(manager(), &self.path, resources, &tell)
    }

    /// Sets the limits again that were in force before a change, also where there were none.
    ///
    /// # Errors
    /// [`Error::NotUndone`] names those that could not be set.
    pub fn undo(&self, change: Change) -> Result<()> {
        change.undo(&|resources| self.tell_systemd(resources))
    }

    /// Whether this is a matter of systemd's, which then knows.
    fn tell_systemd(&self, resources: &LinuxResources) -> Result<bool> {
        match &self.scope {
            Some(scope) => systemd::limit(scope, resources).map(|()| true),
            None => Ok(false),
        }
    }
}

/// The path without leading slash and dots; refuses `..`, which would name another group.
fn checked(path: &str) -> Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::invalid(
                    "linux.cgroupsPath",
                    format!("{path:?} holds \"..\""),
                ));
            }
        }
    }
    if out.as_os_str().is_empty() {
        return Err(Error::invalid(
            "linux.cgroupsPath",
            format!("{path:?} is a hierarchy's root"),
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        assert_eq!(checked("/a//b/./c").unwrap(), Path::new("a/b/c"));
        assert!(checked("/a/../b").is_err());
        assert!(checked("/").is_err());
        assert!(checked("").is_err());
    }
}
