//! What is kept of a container between two commands, and what it is doing.
//!
//! ```text
//!   <root>/<id>/state.json    written whole, last: without it there is no container yet
//!   <root>/<id>/config.json   the configuration as it was when the container was made
//!   <root>/<id>/start.sock    until the container is started
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::args::Given;
use super::{Context, only_id, refused};
use crate::cgroup;
use crate::container::lenient;
use crate::error::{Context as _, Error, Kind, Result};
use crate::resctrl;
use crate::sys::process::pidfd_open;

/// File names within a container's folder.
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
pub(super) const SOCKET: &str = "start.sock";

/// A container as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`, which tells the init from a later process of that pid.
    pub(super) start_time: u64,
    pub(super) oci_version: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    /// RFC 3339.
    pub(super) created: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// Relative to the hierarchies' roots, or as systemd's are named.
    pub(super) cgroup: PathBuf,
    /// `CLONE_NEW*`.
    pub(super) namespaces: i32,
    pub(super) seccomp_filter: Option<PathBuf>,
    /// Its groups of the resctrl file system.
    #[serde(default)]
    pub(super) resctrl: Option<resctrl::Groups>,
}

/// What it is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// An id can be a file's name and nothing else.
pub(super) fn check_id(id: &str) -> Result<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    match id {
        "" => Err(refused(Kind::InvalidArgument, "container id cannot be empty")),
        "." | ".." => Err(refused(Kind::InvalidArgument, "invalid container ID format")),
        _ if id.len() > 255 || !id.chars().all(is_plain) => {
            Err(refused(Kind::InvalidArgument, "invalid container ID format"))
        }
        _ => Ok(id),
    }
}

/// A container's folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    /// Reserves an id.
    pub(super) fn make(root: &Path, id: &str) -> Result<Self> {
        fs::create_dir_all(root).path("create folder", root)?;
        let path = root.join(id);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { path }),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(refused(
                Kind::AlreadyExists,
                "container with given ID already exists",
            )),
            Err(e) => Err(e).path("create folder", path),
        }
    }

    /// That of a container, whether it exists or not.
    pub(super) fn of(root: &Path, id: &str) -> Self {
        Self { path: root.join(id) }
    }

    pub(super) fn save_config(&self, text: &[u8]) -> Result<()> {
        let path = self.path.join(CONFIG);
        fs::write(&path, text).path("write", path)
    }

    /// The configuration that the container was made from.
    pub(super) fn config(&self) -> Result<Spec> {
        let path = self.path.join(CONFIG);
        let text = fs::read(&path).path("read", &path)?;
        let read = lenient::read(&text, lenient::Holds::Configuration);
        read.map(|read| read.value)
            .map_err(|source| Error::Parse { path, source })
    }

    /// Makes the container known. A state of the root's folder is on a tmpfs: nothing is synced.
    pub(super) fn save(&self, record: &Record) -> Result<()> {
        let path = self.path.join(STATE);
        let new = self.path.join("state.json.new");
        let text = serde_json::to_vec(record).map_err(|source| Error::Parse {
            path: path.clone(),
            source,
        })?;
        fs::write(&new, text).path("write", &new)?;
        fs::rename(&new, &path).path("rename to", path)
    }

    pub(super) fn load(&self) -> Result<Record> {
        let path = self.path.join(STATE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| Error::Parse { path, source }),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(refused(Kind::NotFound, "container does not exist"))
            }
            Err(e) => Err(e).path("read", path),
        }
    }

    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e).path("remove folder", &self.path),
            _ => Ok(()),
        }
    }
}

/// A container that exists.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) folder: Folder,
    pub(super) record: Record,
    pub(super) cgroup: cgroup::Handle,
}

impl Container {
    pub(super) fn load(context: &Context, id: &str) -> Result<Self> {
        let folder = Folder::of(&context.root, check_id(id)?);
        let record = folder.load()?;
        let path = record.cgroup.to_str().unwrap_or_default();
        let cgroup = cgroup::Handle::new(path)?;
        Ok(Self {
            folder,
            record,
            cgroup,
        })
    }

    pub(super) fn status(&self) -> Status {
        let stat = stat_of(self.record.pid);
        if stat.is_none_or(|(state, start)| matches!(state, 'Z' | 'X') || start != self.record.start_time) {
            return Status::Stopped;
        }
        if self.cgroup.is_frozen() {
            return Status::Paused;
        }
        match self.folder.path.join(SOCKET).exists() {
            true => Status::Created,
            false => Status::Running,
        }
    }

    /// Refers to the init, which lives.
    pub(super) fn pidfd(&self) -> Result<OwnedFd> {
        let gone = || refused(Kind::InvalidState, "container not running");
        let pidfd = pidfd_open(Pid::from_raw(self.record.pid)).map_err(|_| gone())?;
        // looked at after the descriptor was opened: it can't be a later process of that pid now
        match self.status() {
            Status::Stopped => Err(gone()),
            _ => Ok(pidfd),
        }
    }
}

/// State and start time of a process, of `/proc/<pid>/stat` (proc_pid_stat(5)).
pub(super) fn stat_of(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The state as the specification has it, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    oci_version: &'a str,
    pub(super) id: &'a str,
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: &'a Path,
    rootfs: &'a Path,
    pub(super) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub(super) owner: String,
}

impl<'a> Shown<'a> {
    pub(super) fn new(container: &'a Container) -> Self {
        let (record, status) = (&container.record, container.status());
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status: status.name(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: String::new(),
        }
    }
}

/// `state`
pub(super) fn print(context: &mut Context, given: &Given) -> Result<i32> {
    let container = Container::load(context, only_id("state", given)?)?;
    let text = serde_json::to_string_pretty(&Shown::new(&container)).map_err(|source| Error::Parse {
        path: STATE.into(),
        source,
    })?;
    super::list::put(&format!("{text}\n"))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_files() {
        for id in ["a", "A_1+b-c.d", ".a", "..."] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(256)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn a_process_is_told_by_its_start() {
        let pid = std::process::id().cast_signed();
        let (state, start) = stat_of(pid).unwrap();
        assert!(state == 'R' || state == 'S');
        assert!(start > 0);
        assert_eq!(stat_of(-1), None);
    }

    #[test]
    fn an_id_is_given_out_once_and_a_half_made_container_does_not_exist() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::make(root.path(), "c").unwrap();
        let again = Folder::make(root.path(), "c").unwrap_err();
        assert_eq!(again.to_string(), "container with given ID already exists");
        assert_eq!(folder.load().unwrap_err().to_string(), "container does not exist");
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert_eq!(
            Folder::of(root.path(), "c").load().unwrap_err().kind(),
            Kind::NotFound
        );
    }
}
