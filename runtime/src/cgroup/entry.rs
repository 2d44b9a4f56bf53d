//! Ways into a group that don't stall: a process moves itself, or is born inside.
//!
//! A write of somebody's pid to `cgroup.procs` makes the kernel wait until no process anywhere is between two steps of
//! fork or exit: an RCU grace period, 10 to 20 ms, once for each hierarchy in the worst case. Two ways are free of it: a
//! thread that writes itself to v1's `tasks`, which for a process of one thread comes to the same, and clone3 with
//! `CLONE_INTO_CGROUP`, which only cgroup2 trees have.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::hierarchy::{Hierarchy, hierarchies};
use crate::error::{Context, Error, Result};

/// A group below another, in the hierarchy that has a controller of v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Below {
    /// Such as `cpu`.
    pub(crate) controller: String,
    /// Relative to the other.
    pub(crate) path: PathBuf,
}

/// A group's open doors. Whoever holds them can enter, whatever its own privileges are.
#[derive(Debug)]
pub(crate) struct Entry {
    /// `tasks` of each v1 hierarchy.
    tasks: Vec<(PathBuf, File)>,
    /// The folder in the cgroup2 tree.
    tree: Option<OwnedFd>,
}

impl Entry {
    /// Opens the doors of a group that exists, or in some hierarchies of groups below it.
    pub(super) fn open(path: &Path, below: &[Below]) -> Result<Self> {
        let mut entry = Self {
            tasks: Vec::new(),
            tree: None,
        };
        for hierarchy in hierarchies() {
            let sub = below
                .iter()
                .find(|below| hierarchy.controllers.contains(&below.controller));
            let folder = match sub {
                Some(below) => hierarchy.mount.join(path).join(&below.path),
                None => hierarchy.mount.join(path),
            };
            let opened = match hierarchy.v2 {
                true => open_folder(&folder).map(|fd| entry.tree = Some(fd)),
                false => open_tasks(&folder).map(|task| entry.tasks.push(task)),
            };
            match opened {
                // a hierarchy that was mounted after the group was made has nothing to join
                Err(e) if e.errno() == Some(Errno::ENOENT) && sub.is_none() && !is_required(hierarchy) => {}
                Err(e) if sub.is_some() => {
                    let errno = e.errno().unwrap_or(Errno::EIO);
                    return Err(Error::io("error adding pid to cgroup", folder, errno));
                }
                other => other?,
            }
        }
        Ok(entry)
    }

    /// As [`Entry::open`], but in the cgroup2 tree that of the group in which a process is: this one, or one below.
    pub(super) fn open_beside(path: &Path, pid: Pid) -> Result<Self> {
        let mut entry = Self::open(path, &[])?;
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = fs::read_to_string(&file).path("read", &file)?;
        let place = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let place = place.map(Path::new).filter(|place| place.starts_with(path));
        let tree = hierarchies().iter().find(|hierarchy| hierarchy.v2);
        let (Some(place), Some(tree)) = (place, tree) else {
            return Err(Error::io("find the group of the init below", path, Errno::EBUSY));
        };
        entry.tree = Some(open_folder(&tree.mount.join(place))?);
        Ok(entry)
    }

    /// What clone3 needs for a child to be born inside, on hosts with a cgroup2 tree.
    pub(crate) fn tree(&self) -> Option<BorrowedFd<'_>> {
        self.tree.as_ref().map(AsFd::as_fd)
    }

    /// Moves the caller, which must have one thread only, into the v1 groups; into the cgroup2 tree it is born.
    pub(crate) fn enter(&self) -> Result<()> {
        for (path, file) in &self.tasks {
            let mut file = file;
            file.write_all(b"0").path("join cgroup", path)?;
        }
        Ok(())
    }

    /// As [`Entry::enter`], for one who was not born in the cgroup2 tree: there it is moved, which takes long.
    pub(crate) fn enter_all(&self) -> Result<()> {
        self.enter()?;
        let Some(tree) = &self.tree else { return Ok(()) };
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(tree, "cgroup.procs", flags, Mode::empty()).path("open", "cgroup.procs")?;
        File::from(file)
            .write_all(b"0")
            .path("join cgroup", "cgroup.procs")
    }
}

/// Whether a process must be in this hierarchy's group for its limits to hold.
fn is_required(hierarchy: &Hierarchy) -> bool {
    let named = hierarchy.controllers.iter().all(|c| c.starts_with("name="));
    match hierarchy.v2 {
        true => super::detect() == super::Mode::V2,
        false => !named,
    }
}

fn open_tasks(folder: &Path) -> Result<(PathBuf, File)> {
    let path = folder.join("tasks");
    match File::options().write(true).open(&path) {
        Ok(file) => Ok((path, file)),
        Err(e) => Err(e).path("open", &path),
    }
}

fn open_folder(folder: &Path) -> Result<OwnedFd> {
    let opened = File::options()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_PATH)
        .open(folder);
    opened.map(OwnedFd::from).path("open cgroup", folder)
}
