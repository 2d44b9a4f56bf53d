//! Which cgroup hierarchies this host has and where they are mounted, read once for each process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Where hosts mount their cgroups.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Which interface the host's controllers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A hierarchy for each controller, perhaps with a cgroup2 tree beside them that holds none of those needed.
    V1,
    /// One cgroup2 tree for all.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its v1 controllers (`cpu`, `cpuacct`) or its name (`name=systemd`); empty for a cgroup2 tree.
    pub controllers: Vec<String>,
    /// Whether it is a cgroup2 tree.
    pub v2: bool,
}

/// Which interface this host uses.
pub fn detect() -> Mode {
    static MODE: OnceLock<Mode> = OnceLock::new();
    *MODE.get_or_init(|| match statfs(ROOT) {
        Ok(s) if s.filesystem_type() == CGROUP2_SUPER_MAGIC => Mode::V2,
        _ => Mode::V1,
    })
}

/// All hierarchies of this host.
pub fn hierarchies() -> &'static [Hierarchy] {
    static ALL: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    ALL.get_or_init(|| {
        // line by line, and no further than needed: a node's mount table may be long, and who asks may live long
        let lines = |path| File::open(path).map(|f| BufReader::new(f).lines()).into_iter().flatten();
        let known = lines("/proc/self/cgroup").map_while(Result::ok).count();
        parse(lines("/proc/self/mountinfo").map_while(Result::ok), known)
    })
}

/// The folder of a group under the hierarchy that has this v1 controller.
pub(super) fn v1_folder(controller: &str, path: &Path) -> Option<PathBuf> {
    hierarchies()
        .iter()
        .find(|h| h.controllers.iter().any(|c| c == controller))
        .map(|h| h.mount.join(path))
}

/// Reads the hierarchies off a mount table, until `known` are found; of one that is mounted several times the first
/// counts.
fn parse(mountinfo: impl Iterator<Item = String>, known: usize) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.filter(|line| line.contains(" - cgroup")) {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        let (Some(root), Some(mount)) = (left.get(3), left.get(4)) else {
            continue;
        };
        let (Some(fstype), Some(options)) = (right.first(), right.get(2)) else {
            continue;
        };
        let v2 = match *fstype {
            "cgroup" => false,
            "cgroup2" => true,
            _ => continue,
        };
        // a bind mount of a part of a hierarchy is not the hierarchy
        if *root != "/" && !mount.starts_with(ROOT) {
            continue;
        }
        let controllers = if v2 { Vec::new() } else { controllers(options) };
        if !found.iter().any(|h| h.v2 == v2 && h.controllers == controllers) {
            found.push(Hierarchy {
                mount: PathBuf::from(mount),
                controllers,
                v2,
            });
        }
        if found.len() == known {
            break;
        }
    }
    found
}

/// The controllers among a v1 mount's super block options.
fn controllers(options: &str) -> Vec<String> {
    const KNOWN: [&str; 14] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
        "rdma",
        "misc",
    ];
    options
        .split(',')
        .filter(|o| KNOWN.contains(o) || o.starts_with("name="))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_is_understood() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            50 31 0:29 /a /tmp/x rw - cgroup cgroup rw,cpu,cpuacct\n\
            51 31 0:29 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct\n";
        let lines = || table.lines().map(str::to_owned);
        let found = parse(lines(), 9);
        assert_eq!(found.len(), 3);
        // what comes after the last one known is not looked at
        let mut rest = lines();
        assert_eq!(parse(rest.by_ref(), 3), found);
        assert_eq!(rest.count(), 2);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[1].controllers, ["name=systemd"]);
        assert!(found[2].v2 && found[2].mount == Path::new("/sys/fs/cgroup/unified"));
    }
}
