//! Statistics of a living group, and limits that change as a whole, on whichever cgroups this host has.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use pintle_runtime::cgroup::{self, Depth, Handle, Mode, Stats};

const MIB: i64 = 1 << 20;

/// How long the kernel may take to count what has happened.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group with a process in it; both are gone when it is dropped.
struct Group {
    path: String,
    handle: Handle,
    child: Option<Child>,
}

impl Group {
    /// A group in which `script` runs, once it has joined.
    fn new(script: &str) -> Group {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = format!("/pintle-stats-{}/{serial}", std::process::id());
        cgroup::create(&path).unwrap();
        let handle = Handle::new(&path).unwrap();
        let mut group = Group {
            path,
            handle,
            child: None,
        };
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        group.child = Some(child);
        group.handle.join(pid).unwrap();
        let stdin = group.child.as_mut().unwrap().stdin.as_mut().unwrap();
        std::io::Write::write_all(stdin, b"go\n").unwrap();
        group
    }

    /// The statistics once they fulfil a condition.
    fn stats(&self, what: &str, done: impl Fn(&Stats) -> bool) -> Stats {
        let begun = Instant::now();
        let mut reader = self.handle.reader();
        loop {
            let stats = reader.stats(Depth::Everything).unwrap();
            if done(&stats) {
                return stats;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {stats:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A control file, by its v1 controller and name, or its name on v2.
    fn control(&self, v1: (&str, &str), v2: &str) -> String {
        let wanted = |h: &&cgroup::Hierarchy| match cgroup::detect() {
            Mode::V1 => h.controllers.iter().any(|c| c == v1.0),
            Mode::V2 => h.v2,
        };
        let mount: &PathBuf = &cgroup::hierarchies().iter().find(wanted).unwrap().mount;
        let name = if cgroup::detect() == Mode::V1 { v1.1 } else { v2 };
        let file = mount.join(self.path.trim_start_matches('/')).join(name);
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    fn limits(&self) -> [String; 3] {
        [
            self.control(("memory", "memory.limit_in_bytes"), "memory.max"),
            self.control(("cpu", "cpu.cfs_quota_us"), "cpu.max"),
            self.control(("cpuset", "cpuset.cpus"), "cpuset.cpus"),
        ]
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = cgroup::remove(&self.path);
        if let Some(child) = &mut self.child {
            child.wait().unwrap();
        }
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// A command that holds so many MiB: what dd has read goes into a pipe that nobody reads.
fn hold(mib: u32) -> String {
    format!("dd if=/dev/zero bs={mib}M count=1 2>/dev/null | sleep 1000")
}

fn resources(memory: i64, quota: i64, cpus: Option<&str>) -> LinuxResources {
    let (mut of_memory, mut of_cpu) = (LinuxMemory::default(), LinuxCpu::default());
    of_memory.set_limit(Some(memory));
    of_cpu
        .set_quota(Some(quota))
        .set_period(Some(100_000))
        .set_cpus(cpus.map(str::to_owned));
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(of_memory)).set_cpu(Some(of_cpu));
    resources
}

#[test]
fn what_a_group_uses_is_counted() {
    let group = Group::new(&format!("{} & while :; do :; done", hold(20)));
    // Not held back before it has what it is to hold.
    group.stats("memory", |stats| {
        stats.memory.is_some_and(|m| m.rss > 20_000_000) && stats.cpu.usage > 100_000_000
    });
    group.handle.change(&resources(200 * MIB, 10_000, None)).unwrap();
    let stats = group.stats("a quota that is felt", |stats| {
        stats.cpu.throttling.is_some_and(|t| t.throttled_periods > 0)
    });
    let memory = stats.memory.unwrap();
    assert!(
        memory.usage >= memory.rss && memory.working_set <= memory.usage,
        "{memory:?}"
    );
    assert_eq!(memory.limit, Some(200 << 20));
    assert!(memory.peak.is_none_or(|peak| peak >= memory.rss), "{memory:?}");
    assert!(memory.faults > 0 && memory.oom_kills == Some(0), "{memory:?}");
    assert!(stats.cpu.user > 0 && stats.cpu.user + stats.cpu.system <= stats.cpu.usage + 100_000_000);
    let throttling = stats.cpu.throttling.unwrap();
    assert!(
        throttling.periods > 0 && throttling.throttled_periods > 0,
        "{throttling:?}"
    );
    assert!(stats.pids.unwrap().current >= 1);
    let mut reader = group.handle.reader();
    let usage = reader.stats(Depth::Usage).unwrap();
    assert!(usage.cpu.usage >= stats.cpu.usage && usage.memory.is_some());
    assert!(usage.cpu.throttling.is_none() && usage.io.is_empty());
    assert!(
        reader.stats(Depth::Usage).unwrap().cpu.usage >= usage.cpu.usage,
        "from the same files"
    );
}

#[test]
fn a_group_that_is_gone_has_no_statistics_and_one_made_anew_has() {
    let group = Group::new("sleep 1000");
    let mut reader = group.handle.reader();
    assert!(reader.stats(Depth::Usage).is_ok());
    let path = group.path.clone();
    drop(group);
    let gone = reader.stats(Depth::Usage).unwrap_err();
    assert!(
        matches!(
            gone.errno(),
            Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV)
        ),
        "{gone}"
    );
    cgroup::create(&path).unwrap();
    let anew = reader.stats(Depth::Usage).map(|stats| stats.cpu.usage);
    cgroup::remove(&path).unwrap();
    assert_eq!(anew.unwrap(), 0);
}

#[test]
fn limits_change_as_a_whole_or_not_at_all() {
    let group = Group::new(&hold(40));
    group.stats("memory", |stats| stats.memory.is_some_and(|m| m.rss > 40_000_000));
    group
        .handle
        .change(&resources(100 * MIB, 60_000, Some("0")))
        .unwrap();
    let before = group.limits();
    assert_eq!(before[0], (100 * MIB).to_string());
    assert!(before[1].starts_with("60000"), "{before:?}");

    let refused = group
        .handle
        .change(&resources(16 * MIB, 70_000, None))
        .unwrap_err();
    assert!(refused.to_string().contains("below what is in use"), "{refused}");
    assert_eq!(group.limits(), before, "nothing was changed");
    // Memory and quota are written before the processors, of which there aren't so many.
    group
        .handle
        .change(&resources(150 * MIB, 70_000, Some("4000")))
        .unwrap_err();
    assert_eq!(group.limits(), before, "what was changed was put back");
    let memory = group.stats("", |_| true).memory.unwrap();
    assert_eq!(memory.oom_kills, Some(0), "nothing was killed");
    for limit in [90, 200, 200] {
        group.handle.change(&resources(limit * MIB, -1, None)).unwrap();
        assert_eq!(group.limits()[0], (limit * MIB).to_string());
    }
}

#[test]
fn page_cache_is_given_up_for_a_lower_limit() {
    // On a disk: a tmpfs can't be given up.
    let file = PathBuf::from("/var/tmp").join(format!("pintle-cache-{}", std::process::id()));
    let script = format!(
        "head -c 64000000 /dev/zero > {0}; sync {0}; cat {0} {0} > /dev/null; while :; do sleep 1; done",
        file.display()
    );
    let group = Group::new(&script);
    group.stats("page cache", |stats| {
        stats.memory.is_some_and(|m| m.cache > 50_000_000)
    });
    let changed = group.handle.change(&resources(24 * MIB, 60_000, None));
    fs::remove_file(&file).unwrap();
    changed.unwrap();
    assert_eq!(group.limits()[0], (24 * MIB).to_string());
}
