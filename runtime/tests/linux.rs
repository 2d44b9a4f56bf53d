//! Smaller settings of the specification: clocks, personality, scheduling, NUMA policy.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use serde_json::json;
use support::Bundle;

#[test]
fn clocks_of_a_time_namespace_are_shifted_also_for_an_exec() {
    let mut b = Bundle::new("cut -d. -f1 /proc/uptime");
    b.add("/linux/namespaces", json!({"type": "time"}));
    b.set("/linux/maskedPaths", json!([]));
    b.set(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000_000, "nanosecs": 0}}),
    );
    let uptime: u64 = b.output().trim().parse().unwrap();
    assert!(uptime > 1_000_000_000, "{uptime}");
}

#[test]
fn the_personality_is_the_one_asked_for() {
    let mut b = Bundle::new("uname -m");
    assert_eq!(b.output(), "x86_64\n");
    b.set("/linux/personality", json!({"domain": "LINUX32"}));
    assert_eq!(b.output(), "i686\n");
}

#[test]
fn scheduling_and_io_priority_are_set() {
    let mut b = Bundle::new("cut -d' ' -f19,41 /proc/self/stat; ionice -p $$");
    b.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    b.set(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
    );
    let output = b.output();
    // nice value, and the policy's number (sched(7))
    assert_eq!(output, "5 3\nbest-effort: prio 6\n");
    b.set(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_BE", "priority": 9}),
    );
    let mut running = b.prepare().unwrap();
    let e = running.start().unwrap_err().to_string();
    assert!(e.contains("process.ioPriority.priority"), "{e}");
}

#[test]
fn memory_comes_from_the_nodes_of_the_policy() {
    // without NUMA the kernel shows no maps, and takes no policy
    let numa = std::path::Path::new("/proc/self/numa_maps").exists();
    let mut b = Bundle::new("grep -c bind:0 /proc/self/numa_maps");
    b.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    let mut running = b.prepare().unwrap();
    if numa {
        running.start().unwrap();
        let (code, output) = running.finish();
        assert!(code == 0 && output.trim() != "0", "{output}");
    } else {
        let e = running.start().unwrap_err().to_string();
        assert!(e.contains("no NUMA policies"), "{e}");
    }
    b.set(
        "/linux/memoryPolicy",
        json!({"mode": "MPOL_BIND", "nodes": "5-3"}),
    );
    let mut running = b.prepare().unwrap();
    let e = running.start().unwrap_err().to_string();
    assert_eq!(e, "linux.memoryPolicy: \"5-3\" is no list as 0-3,7");
}
