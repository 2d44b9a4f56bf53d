//! Questions to the host: processes, mounts, cgroups, links, firewall; all by reading files where that is possible.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// A line of mountinfo, as far as the tests need it (see proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Path within the mount's file system that forms its root; `net:[…]` for a pinned namespace.
    pub fs_root: String,
    /// Mount point.
    pub target: PathBuf,
    /// File system type.
    pub fs_type: String,
    /// Options of the file system, such as an overlay's layers.
    pub options: String,
}

/// The mounts that a process sees; `process` is a process id or `self`.
pub fn mounts(process: &str) -> Result<Vec<Mount>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    Some(Mount {
        fs_root: (*left.get(3)?).to_owned(),
        target: PathBuf::from(left.get(4)?.replace("\\040", " ")),
        fs_type: (*right.first()?).to_owned(),
        options: right.get(2).copied().unwrap_or_default().to_owned(),
    })
}

/// All process ids.
pub fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

/// A process's command line, its arguments joined by spaces; empty for a zombie or a process that is gone.
pub fn cmdline(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}

/// The pids whose command line names `path`, such as a daemon's state folder.
pub fn pids_naming(path: &Path) -> Vec<i32> {
    let inside = format!("{}/", path.display());
    let itself = path.display().to_string();
    let own = std::process::id().cast_signed();
    let names = |pid: &i32| {
        let line = cmdline(*pid);
        line.contains(&inside) || line.split([' ', '=']).any(|word| word == itself)
    };
    pids()
        .into_iter()
        .filter(|pid| *pid != own)
        .filter(names)
        .collect()
}

/// The pids in `cgroup` or below it, in whichever hierarchy.
pub fn pids_in_cgroup(cgroup: &str) -> Vec<i32> {
    let below = format!(":{cgroup}/");
    let itself = format!(":{cgroup}");
    let inside = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines()
            .any(|line| line.contains(&below) || line.ends_with(&itself))
    };
    pids().into_iter().filter(inside).collect()
}

/// A process's memory in KiB: what it has written and keeps for itself, and its proportional share of everything
/// (`Private_Dirty` and `Pss` of smaps_rollup, see proc_pid_smaps(5)). Pages of a program file are left out of the first:
/// whether they count as private depends on who else happens to run it.
pub fn memory(pid: i32) -> Result<(u64, u64)> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let value = |key: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    };
    Ok((value("Private_Dirty:"), value("Pss:")))
}

/// Processor time that a process has taken so far, user and system; to the nanosecond (`schedstat`, proc(5)) of each thread
/// that still lives.
pub fn cpu_time(pid: i32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of {pid}"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds = text.split_whitespace().next().unwrap_or_default();
        total += Duration::from_nanos(nanoseconds.parse().context("schedstat")?);
    }
    Ok(total)
}

/// What the kernel could give to a new process without swapping, in KiB (`MemAvailable`, proc(5)).
pub fn memory_available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .context("no MemAvailable in /proc/meminfo")
}

/// The mounted cgroup hierarchies: one on a v2 host, one per controller (and perhaps a cgroup2) on v1.
pub fn cgroup_roots() -> Result<Vec<PathBuf>> {
    let all = mounts("self")?;
    let roots: BTreeSet<PathBuf> = all
        .into_iter()
        .filter(|m| m.fs_type.starts_with("cgroup"))
        .map(|m| m.target)
        .collect();
    Ok(roots.into_iter().collect())
}

/// Makes `cgroup` in every hierarchy.
pub fn create_cgroups(cgroup: &str) -> Result<()> {
    for root in cgroup_roots()? {
        let path = root.join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    Ok(())
}

/// The folders below `cgroup` in every hierarchy, children before their parents; without `cgroup` itself.
pub fn cgroups_below(cgroup: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for root in cgroup_roots()? {
        collect_dirs(&root.join(cgroup.trim_start_matches('/')), &mut found);
    }
    Ok(found)
}

fn collect_dirs(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_dirs(&entry.path(), found);
            found.push(entry.path());
        }
    }
}

/// Everything below `folder` that has this name; links are not followed.
pub fn find_named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            found.push(entry.path());
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(find_named(&entry.path(), name));
        }
    }
    found
}

/// The interfaces attached to a bridge; none if the bridge does not exist.
pub fn bridge_ports(bridge: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/sys/class/net/{bridge}/brif"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// All interfaces of the host's own network namespace.
pub fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The words in the host's nftables rules and sets that begin with `prefix`, such as the addresses of a subnet.
pub fn firewall_words(prefix: &str) -> Vec<String> {
    let Ok(text) = run("nft", &["list", "ruleset"]) else {
        return Vec::new();
    };
    let words = text.split(|c: char| c.is_whitespace() || ",\"{}".contains(c));
    words
        .filter(|word| word.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

/// Runs a host program to its end and answers with its output.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_mountinfo_line_with_optional_fields() {
        let line = "36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mount(line).expect("a mount");
        assert_eq!(mount.fs_root, "/mnt1");
        assert_eq!(mount.target, Path::new("/mnt two"));
        assert_eq!(
            (mount.fs_type.as_str(), mount.options.as_str()),
            ("ext3", "rw,errors=continue")
        );
    }

    #[test]
    fn sees_its_own_process() {
        assert!(pids().contains(&std::process::id().cast_signed()));
    }
}
