//! Limits in the cgroup's files, the container's view of its cgroup, killing and removal.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs;
use std::path::PathBuf;

use pintle_runtime::cgroup::{self, Handle, Mode};
use serde_json::json;
use support::Bundle;

/// A control file of the bundle's group: by v1 controller, or in the one tree of v2.
fn file(b: &Bundle, controller: &str, name: &str) -> PathBuf {
    let path = b.cgroup.trim_start_matches('/');
    let wanted = |h: &&cgroup::Hierarchy| match cgroup::detect() {
        Mode::V1 => h.controllers.iter().any(|c| c == controller),
        Mode::V2 => h.v2,
    };
    cgroup::hierarchies()
        .iter()
        .find(wanted)
        .unwrap()
        .mount
        .join(path)
        .join(name)
}

fn read(b: &Bundle, controller: &str, name: &str) -> String {
    fs::read_to_string(file(b, controller, name))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn limits_reach_the_kernel() {
    let mut b = Bundle::new("true");
    b.set(
        "/linux/resources/memory",
        json!({"limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20}),
    );
    b.set(
        "/linux/resources/cpu",
        json!({"shares": 512, "quota": 50000, "period": 100_000, "cpus": "0"}),
    );
    b.set("/linux/resources/pids", json!({"limit": 33}));
    let mut running = b.prepare().unwrap();
    let expected: &[(&str, &str, &str)] = match cgroup::detect() {
        Mode::V1 => &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "100000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "33"),
        ],
        Mode::V2 => &[
            ("", "memory.max", "67108864"),
            ("", "memory.swap.max", "0"),
            ("", "memory.low", "33554432"),
            ("", "cpu.weight", "59"),
            ("", "cpu.max", "50000 100000"),
            ("", "cpuset.cpus", "0"),
            ("", "pids.max", "33"),
        ],
    };
    for (controller, name, value) in expected {
        assert_eq!(read(&b, controller, name), *value, "{name}");
    }
    running.start().unwrap();
    assert_eq!(running.wait(), 0);
}

#[test]
fn memory_can_be_raised_and_lowered_with_swap() {
    let mut b = Bundle::new("sleep 1000");
    b.set(
        "/linux/resources/memory",
        json!({"limit": 64 << 20, "swap": 64 << 20}),
    );
    let running = b.prepare().unwrap();
    for mib in [256, 32, 128] {
        let resources =
            serde_json::from_value(json!({"memory": {"limit": mib << 20, "swap": mib << 20}})).unwrap();
        running.prepared.cgroup.update(&resources).unwrap();
        let name = if cgroup::detect() == Mode::V1 {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        assert_eq!(read(&b, "memory", name), (mib << 20).to_string());
    }
    let worse = serde_json::from_value(json!({"memory": {"limit": 64 << 20, "swap": 32 << 20}})).unwrap();
    let e = running.prepared.cgroup.update(&worse).unwrap_err().to_string();
    assert!(e.starts_with("linux.resources.memory.swap: 33554432"), "{e}");
}

#[test]
fn a_kill_for_lack_of_memory_is_counted() {
    let mut b = Bundle::new("exec tail /dev/zero");
    b.set(
        "/linux/resources/memory",
        json!({"limit": 8 << 20, "swap": 8 << 20}),
    );
    let mut running = b.prepare().unwrap();
    assert_eq!(running.prepared.cgroup.oom_kills(), 0);
    running.start().unwrap();
    assert_eq!(running.wait(), 137);
    assert!(running.prepared.cgroup.oom_kills() > 0);
}

#[test]
fn the_container_sees_its_own_group_only() {
    let b = Bundle::new(
        "cat /proc/self/cgroup; ls /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | wc -l; touch /sys/fs/cgroup/x 2>&1",
    );
    let (_, output) = b.run();
    for line in output
        .lines()
        .filter(|l| l.contains(':') && !l.starts_with("touch"))
    {
        assert!(line.ends_with(":/"), "{line}");
    }
    assert!(output.contains("Read-only file system"), "{output}");
}

#[test]
fn without_a_cgroup_namespace_it_is_shown_as_well() {
    let mut b = Bundle::new(
        "cat /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | sort -u | head -1; grep -c pintle-test /proc/self/cgroup",
    );
    b.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|n| n["type"] != "cgroup");
    let output = b.output();
    assert!(output.starts_with("1\n"), "{output}");
    assert_ne!(output.lines().nth(1), Some("0"));
}

#[test]
fn everything_is_killed_and_nested_groups_are_removed() {
    let b = Bundle::new("sleep 1000 & sleep 1000 & echo ready; wait");
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    assert_eq!(running.line(), "ready");
    let nested = file(&b, "memory", "deep/deeper");
    fs::create_dir_all(&nested).unwrap();
    let pids = running.prepared.cgroup.processes().unwrap();
    assert_eq!(pids.len(), 3);
    fs::write(nested.join("cgroup.procs"), pids[2].to_string()).unwrap();
    running.prepared.cgroup.kill_all().unwrap();
    assert_eq!(running.wait(), 137);
    running.prepared.cgroup.remove().unwrap();
    b.assert_nothing_left();
}

#[test]
fn a_frozen_container_can_be_killed() {
    let b = Bundle::new("echo ready; sleep 1000");
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    assert_eq!(running.line(), "ready");
    let handle = running.prepared.cgroup.clone();
    handle.freeze(true).unwrap();
    assert!(handle.is_frozen());
    handle.kill_all().unwrap();
    assert_eq!(running.wait(), 137);
}

#[test]
fn a_group_in_use_is_refused_and_left_alone() {
    let b = Bundle::new("sleep 1000");
    let running = b.prepare().unwrap();
    let mut other = Bundle::new("true");
    other.set("/linux/cgroupsPath", json!(b.cgroup));
    let e = other.prepare().err().unwrap().to_string();
    assert_eq!(e, "linux.cgroupsPath: container's cgroup is not empty");
    assert!(
        !running.prepared.cgroup.processes().unwrap().is_empty(),
        "the other's processes must live"
    );
}

#[test]
fn parents_made_on_the_way_go_and_others_stay() {
    let name = format!("pintle-parents-{}", std::process::id());
    let first = cgroup::hierarchies()[0].mount.join(&name);
    fs::create_dir(&first).unwrap();
    let path = format!("/{name}/made/leaf");
    cgroup::create(&path).unwrap();
    cgroup::create(&path).unwrap();
    assert!(Handle::new(&path).unwrap().processes().unwrap().is_empty());
    cgroup::remove(&path).unwrap();
    cgroup::remove(&path).unwrap();
    let left: Vec<PathBuf> = cgroup::hierarchies()
        .iter()
        .map(|h| h.mount.join(&name))
        .filter(|p| p.exists())
        .collect();
    assert!(!first.join("made").exists());
    fs::remove_dir(&first).unwrap();
    assert_eq!(left, [first]);
}

#[test]
fn a_limit_that_the_kernel_refuses_undoes_everything() {
    let mut b = Bundle::new("true");
    b.set("/linux/resources/cpu", json!({"cpus": "4000"}));
    let e = b.error();
    assert!(e.starts_with("write \"4000\" to /sys/fs/cgroup/"), "{e}");
}
