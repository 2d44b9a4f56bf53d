//! Shares of caches and memory bandwidth: a container's groups in the kernel's resctrl file system (`linux.intelRdt`,
//! Documentation/filesystems/resctrl.rst of the kernel).
//!
//! ```text
//!   <resctrl>/<closID or container>/                   tasks, schemata: what its processes get
//!   <resctrl>/<closID or container>/mon_groups/<id>/   tasks: what is counted for this container alone
//! ```
//!
//! Processes enter by their pids; those that they fork are born in the groups of their parent.

mod schemata;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::{LinuxIntelRdt, Spec};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// What a class is called that is the file system's root, where all processes are that nobody has put elsewhere.
const DEFAULT_CLASS: &str = "/";

/// Where a class has the groups that are only counted.
const MONITORED: &str = "mon_groups";

/// Names at the file system's root that are no class.
const RESERVED: [&str; 5] = [".", "..", "info", MONITORED, "mon_data"];

/// What a configuration asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The class's folder.
    class: PathBuf,
    /// Whether the configuration names it: then it is shared with others, and stays.
    is_named: bool,
    /// What to write to its `schemata`, in this order, each with its field.
    lines: Vec<(&'static str, String)>,
    /// The name of the group that is to be counted.
    counted: Option<String>,
}

impl Plan {
    /// Reads `linux.intelRdt`. `root` is where the file system is to be found, if not where it is mounted.
    pub(crate) fn read(spec: &Spec, id: &str, root: Option<&Path>) -> Result<Option<Self>> {
        let Some(wanted) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else {
            return Ok(None);
        };
        let class = wanted.clos_id().as_deref().filter(|class| !class.is_empty());
        check_class(class)?;
        let lines = lines(wanted)?;
        let root = match root {
            Some(root) => root.to_owned(),
            None => mount_point()?,
        };
        let is_counted = wanted.enable_monitoring().unwrap_or(false);
        if class.is_none() || is_counted {
            check_name(id).map_err(|reason| Error::invalid("linux.intelRdt", reason))?;
        }
        let class = class.unwrap_or(id);
        let plan = Self {
            is_named: wanted.clos_id().as_deref().is_some_and(|class| !class.is_empty()),
            class: match class {
                DEFAULT_CLASS => root,
                name => root.join(name),
            },
            lines,
            counted: is_counted.then(|| id.to_owned()),
        };
        if plan.is_named && plan.lines.is_empty() && !plan.class.is_dir() {
            let reason = "there is no class of this name, and nothing says what it is to get";
            return Err(Error::invalid(
                "linux.intelRdt.closID",
                format!("{class:?}: {reason}"),
            ));
        }
        Ok(Some(plan))
    }

    /// Makes what isn't there and puts a process into it. `made` is told, as soon as something is made, what is to be
    /// removed if this fails later.
    pub(crate) fn apply(&self, pid: i32, mut made: impl FnMut(&Groups) -> Result<()>) -> Result<()> {
        let mut groups = Groups {
            class: self.class.clone(),
            is_own: false,
            counted: None,
        };
        let is_new = make_folder(&self.class)?;
        groups.is_own = is_new && !self.is_named;
        made(&groups)?;
        if !is_new && self.is_named {
            self.compare()?;
        }
        for (field, line) in &self.lines {
            self.write_line(field, line)?;
        }
        if let Some(name) = &self.counted {
            let path = self.class.join(MONITORED).join(name);
            fs::create_dir(&path).path("create monitoring group", &path)?;
            groups.counted = Some(path);
            made(&groups)?;
        }
        groups.enter(pid)
    }

    /// A class that others have made must be what the configuration says.
    fn compare(&self) -> Result<()> {
        let path = self.schemata();
        let mut wanted = self
            .lines
            .iter()
            .filter(|(field, _)| *field != FIELD_SCHEMATA)
            .peekable();
        if wanted.peek().is_none() {
            return Ok(());
        }
        let is = fs::read_to_string(&path).path("read", &path)?;
        for (field, line) in wanted {
            if !schemata::agree(line, &is) {
                let reason = format!("{line:?} is not what the class {} has", self.class.display());
                return Err(Error::invalid(*field, reason));
            }
        }
        Ok(())
    }

    /// Line by line, so that one that the kernel refuses can be told from the others.
    fn write_line(&self, field: &str, line: &str) -> Result<()> {
        let path = self.schemata();
        let mut file = File::options().write(true).open(&path).path("open", &path)?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(|e| {
            let errno = Errno::from_raw(e.raw_os_error().unwrap_or_default());
            let reason = match self.last_status() {
                Some(said) => format!("{line:?}: {}: {said}", errno.desc()),
                None => format!("{line:?}: {}", errno.desc()),
            };
            Error::invalid(field, reason)
        })
    }

    /// What the kernel says of the last thing that it refused.
    fn last_status(&self) -> Option<String> {
        let root = match self.class.parent() {
            Some(above) if above.join("info").is_dir() => above,
            _ => &self.class,
        };
        let said = fs::read_to_string(root.join("info/last_cmd_status")).ok()?;
        let said = said.trim();
        (said != "ok" && !said.is_empty()).then(|| said.to_owned())
    }

    fn schemata(&self) -> PathBuf {
        self.class.join("schemata")
    }
}

/// The groups that a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    class: PathBuf,
    /// Whether the class was made for this container alone.
    is_own: bool,
    counted: Option<PathBuf>,
}

impl Groups {
    /// Puts a process into them, 0 for the caller. The class comes first: only its own processes can be counted.
    pub(crate) fn enter(&self, pid: i32) -> Result<()> {
        for folder in std::iter::once(&self.class).chain(&self.counted) {
            let path = folder.join("tasks");
            let mut file = File::options().write(true).open(&path).path("open", &path)?;
            file.write_all(pid.to_string().as_bytes())
                .path("put process into", &path)?;
        }
        Ok(())
    }

    /// Removes those that are the container's alone; what is gone already is fine. Processes that are left go back to
    /// where others are.
    pub(crate) fn remove(&self) -> Result<()> {
        let own = self.is_own.then_some(&self.class);
        for folder in self.counted.iter().chain(own) {
            match fs::remove_dir(folder) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).path("remove resctrl group", folder);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const FIELD_SCHEMATA: &str = "linux.intelRdt.schemata";

/// What is to be written, in the order that the specification has.
fn lines(wanted: &LinuxIntelRdt) -> Result<Vec<(&'static str, String)>> {
    let single = [
        ("linux.intelRdt.l3CacheSchema", wanted.l3_cache_schema(), None),
        ("linux.intelRdt.memBwSchema", wanted.mem_bw_schema(), Some("MB:")),
    ];
    let mut lines = Vec::new();
    for (field, line, start) in single {
        let Some(line) = line.as_deref().filter(|line| !line.is_empty()) else {
            continue;
        };
        if let Some(start) = start.filter(|start| !line.starts_with(start)) {
            return Err(Error::invalid(
                field,
                format!("{line:?} doesn't begin with {start}"),
            ));
        }
        lines.push((field, line.to_owned()));
    }
    let all = wanted.schemata().iter().flatten();
    lines.extend(all.map(|line| (FIELD_SCHEMATA, line.clone())));
    match lines.iter().find(|(_, line)| line.contains('\n')) {
        Some((field, line)) => Err(Error::invalid(*field, format!("{line:?} is more than one line"))),
        None => Ok(lines),
    }
}

fn check_class(class: Option<&str>) -> Result<()> {
    match class {
        None | Some(DEFAULT_CLASS) => Ok(()),
        Some(name) => check_name(name).map_err(|reason| Error::invalid("linux.intelRdt.closID", reason)),
    }
}

/// A class is a folder right below the root, which the kernel has not made itself.
fn check_name(name: &str) -> std::result::Result<(), String> {
    match RESERVED.contains(&name) || name.contains(['/', '\n', '\0']) || name.len() > 255 {
        true => Err(format!("{name:?} can't be the name of a class")),
        false => Ok(()),
    }
}

/// Whether it was not there.
fn make_folder(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e).path("create resctrl group", path),
    }
}

/// Where the file system is mounted in the caller's mount namespace.
fn mount_point() -> Result<PathBuf> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).path("read", table)?;
    find_mount(&text).ok_or_else(|| {
        let reason = "no resctrl file system is mounted on this host";
        Error::invalid("linux.intelRdt", reason)
    })
}

fn find_mount(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, place) = (left.next()?, left.next()?);
        let is_whole = right.starts_with("resctrl ") && root == "/";
        is_whole.then(|| PathBuf::from(place))
    })
}

#[cfg(test)]
mod tests;
