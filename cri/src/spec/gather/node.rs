//! What this machine is able to do, looked up once when the daemon starts.

use std::{collections::BTreeMap, fs, path::Path};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use oci_spec::runtime::Capability;

use super::{
    super::{CgroupVersion, NodeFacts, caps},
    Context as _, GatherError,
};
use crate::{config, proto::CgroupDriver};

const CGROUP: &str = "/sys/fs/cgroup";
const STATUS: &str = "/proc/self/status";
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";
const LIMITS: &str = "/proc/self/limits";

/// Options of a cgroup2 mount that belong to the file system, not to the mount (cgroups(7)).
const CGROUP2_OPTIONS: [&str; 6] = [
    "nsdelegate",
    "favordynmods",
    "memory_localevents",
    "memory_recursiveprot",
    "memory_hugetlb_accounting",
    "pids_localevents",
];

/// Limits as /proc/self/limits and as configuration calls them.
const LIMIT_NAMES: [(&str, &str); 16] = [
    ("Max address space", "as"),
    ("Max core file size", "core"),
    ("Max cpu time", "cpu"),
    ("Max data size", "data"),
    ("Max file size", "fsize"),
    ("Max file locks", "locks"),
    ("Max locked memory", "memlock"),
    ("Max msgqueue size", "msgqueue"),
    ("Max nice priority", "nice"),
    ("Max open files", "nofile"),
    ("Max processes", "nproc"),
    ("Max resident set", "rss"),
    ("Max realtime priority", "rtprio"),
    ("Max realtime timeout", "rttime"),
    ("Max pending signals", "sigpending"),
    ("Max stack size", "stack"),
];

/// Looks around on this machine.
///
/// # Errors
/// /proc or /sys can't be read.
pub fn node_facts(driver: config::CgroupDriver) -> Result<NodeFacts, GatherError> {
    let read = |path: &str| fs::read_to_string(path).context("read", path);
    let cgroup_version = cgroup_version()?;
    let capabilities = capabilities(&read(STATUS)?).ok_or_else(|| GatherError::Unreadable {
        path: STATUS.into(),
        what: "capabilities",
    })?;
    let resource = capabilities.contains(&Capability::SysResource);
    let own_score = read(OOM_SCORE_ADJ)?.trim().parse().unwrap_or(0);
    let uname = nix::sys::utsname::uname()
        .map_err(std::io::Error::from)
        .context("ask for", "uname")?;
    let release = kernel(&uname.release().to_string_lossy());
    Ok(NodeFacts {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        cgroup_version,
        cgroup_driver: cgroup_driver(driver)?,
        swap_limit: swap_limit(cgroup_version),
        hugepage_sizes: hugepage_sizes(cgroup_version),
        cgroup2_options: cgroup2_options(&read("/proc/self/mountinfo")?),
        oom_score_adj_floor: (!resource).then_some(own_score),
        rlimit_ceilings: rlimit_ceilings(resource, &read(LIMITS)?, &read("/proc/sys/fs/nr_open")?),
        capabilities,
        recursive_read_only: release >= (5, 12),
        user_namespaces: release >= (5, 19) && number("/proc/sys/user/max_user_namespaces") > 0,
        apparmor: starts_with("/sys/module/apparmor/parameters/enabled", "Y")
            && Path::new(super::APPARMOR_PROFILES).exists(),
        selinux: selinux(),
    })
}

/// Hybrid hosts, where cgroup2 holds but a few controllers, count as v1.
fn cgroup_version() -> Result<CgroupVersion, GatherError> {
    let found = statfs(CGROUP)
        .map_err(std::io::Error::from)
        .context("look up", CGROUP)?;
    let v2 = found.filesystem_type() == CGROUP2_SUPER_MAGIC;
    Ok(if v2 { CgroupVersion::V2 } else { CgroupVersion::V1 })
}

/// Where systemd is the first process the cgroups are its own.
fn cgroup_driver(setting: config::CgroupDriver) -> Result<CgroupDriver, GatherError> {
    match (setting, pintle_runtime::cgroup::systemd_is_booted()) {
        (config::CgroupDriver::Cgroupfs, _) | (config::CgroupDriver::Auto, false) => {
            Ok(CgroupDriver::Cgroupfs)
        }
        (config::CgroupDriver::Systemd | config::CgroupDriver::Auto, true) => Ok(CgroupDriver::Systemd),
        (config::CgroupDriver::Systemd, false) => Err(GatherError::NoSystemd),
    }
}

/// On v2 the root has no such file, but groups below it do.
fn swap_limit(version: CgroupVersion) -> bool {
    if version == CgroupVersion::V1 {
        return Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
    }
    let groups = fs::read_dir(CGROUP).into_iter().flatten().flatten();
    groups
        .map(|group| group.path().join("memory.swap.max"))
        .any(|file| file.exists())
}

/// As `2MB`; none where they can't be limited.
fn hugepage_sizes(version: CgroupVersion) -> Vec<String> {
    let limited = match version {
        CgroupVersion::V1 => Path::new("/sys/fs/cgroup/hugetlb").exists(),
        CgroupVersion::V2 => {
            let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
            controllers
                .split_whitespace()
                .any(|controller| controller == "hugetlb")
        }
    };
    let entries = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut sizes: Vec<String> = names
        .filter_map(|name| page_size(&name))
        .filter(|_| limited)
        .collect();
    sizes.sort();
    sizes
}

/// `hugepages-2048kB` is `2MB`.
fn page_size(name: &str) -> Option<String> {
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(match kib {
        _ if kib.is_multiple_of(1 << 20) => format!("{}GB", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

fn cgroup2_options(mountinfo: &str) -> Vec<String> {
    let mounted = |line: &&str| line.split(' ').nth(4) == Some(CGROUP) && line.contains(" - cgroup2 ");
    let options = mountinfo
        .lines()
        .rfind(mounted)
        .and_then(|line| line.rsplit(' ').next())
        .unwrap_or_default();
    options
        .split(',')
        .filter(|option| CGROUP2_OPTIONS.contains(option))
        .map(str::to_owned)
        .collect()
}

/// Those that are both permitted and within the bounding set, from /proc/self/status.
fn capabilities(status: &str) -> Option<Vec<Capability>> {
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let bits = set("CapPrm:")? & set("CapBnd:")?;
    Some(
        caps::ALL
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| bits >> bit & 1 == 1)
            .map(|(_, cap)| cap)
            .collect(),
    )
}

/// Nobody gets more open files than fs.nr_open; without CAP_SYS_RESOURCE nobody gets more of anything than we have.
fn rlimit_ceilings(resource: bool, limits: &str, nr_open: &str) -> BTreeMap<String, u64> {
    let mut ceilings = BTreeMap::new();
    if let Ok(nr_open) = nr_open.trim().parse() {
        ceilings.insert("nofile".to_owned(), nr_open);
    }
    for (label, name) in LIMIT_NAMES.iter().filter(|_| !resource) {
        let line = limits.lines().find_map(|line| line.strip_prefix(label));
        let hard = line
            .and_then(|rest| rest.split_whitespace().nth(1))
            .and_then(|hard| hard.parse().ok());
        if let Some(hard) = hard {
            let ceiling: &mut u64 = ceilings.entry((*name).to_owned()).or_insert(hard);
            *ceiling = hard.min(*ceiling);
        }
    }
    ceilings
}

/// Mounted, and with a policy: without one labels have no parts.
fn selinux() -> bool {
    let label = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    Path::new("/sys/fs/selinux/enforce").exists() && label.matches(':').count() >= 2
}

/// Major and minor of a kernel release as `6.18.0-rc1`.
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn number(path: &str) -> u64 {
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn starts_with(path: &str, beginning: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_understood() {
        let facts = node_facts(config::CgroupDriver::Cgroupfs).unwrap();
        assert!(!facts.hostname.is_empty());
        assert_eq!(facts.cgroup_driver, CgroupDriver::Cgroupfs);
        let resource = facts.capabilities.contains(&Capability::SysResource);
        assert_eq!(facts.oom_score_adj_floor.is_none(), resource);
        assert!(facts.rlimit_ceilings["nofile"] > 0);
    }

    #[test]
    fn capabilities_are_the_permitted_ones_within_the_bounding_set() {
        let status = "Name:\tx\nCapPrm:\t0000000000000023\nCapBnd:\t0000000000000021\n";
        assert_eq!(
            capabilities(status),
            Some(vec![Capability::Chown, Capability::Kill])
        );
        assert_eq!(capabilities("CapPrm:\tzz\n"), None);
        let all = "CapPrm:\tffffffffffffffff\nCapBnd:\t000001ffffffffff\n";
        assert_eq!(capabilities(all).unwrap().len(), 41);
    }

    #[test]
    fn ceilings_hold_where_limits_cannot_be_raised() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             100                  200                  processes\n\
                      Max open files            1024                 20000                files\n\
                      Max core file size        0                    unlimited            bytes\n";
        let with = rlimit_ceilings(true, limits, "1048576\n");
        assert_eq!(with, BTreeMap::from([("nofile".to_owned(), 1_048_576)]));
        let without = rlimit_ceilings(false, limits, "1048576\n");
        assert_eq!(
            without,
            BTreeMap::from([("nofile".to_owned(), 20_000), ("nproc".to_owned(), 200)])
        );
    }

    #[test]
    fn sizes_of_pages_and_versions_of_kernels() {
        assert_eq!(page_size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(page_size("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(page_size("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(page_size("other"), None);
        assert_eq!(kernel("6.18.0-rc1+"), (6, 18));
        assert_eq!(kernel("5.4"), (5, 4));
        assert_eq!(kernel(""), (0, 0));
    }

    #[test]
    fn options_of_the_file_system_are_told_from_the_mount_s() {
        let line = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        assert_eq!(cgroup2_options(line), ["nsdelegate", "memory_recursiveprot"]);
        assert!(cgroup2_options("35 24 0:30 / /sys/fs/cgroup rw - tmpfs tmpfs rw,nsdelegate\n").is_empty());
    }
}
