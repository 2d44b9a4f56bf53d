//! What is written to a container's groups, as another implementation reads it, and the other way round: `cgroups-rs`
//! shares no code with this crate.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::freezer::FreezerController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, MaxValue, hierarchies};
use cgroups_rs::{CgroupPid, FreezerState};
use pintle_runtime::cgroup::{self, Depth, Handle, Mode};
use serde_json::json;
use support::Bundle;

const MIB: i64 = 1 << 20;

fn witness(path: &str) -> Cgroup {
    Cgroup::load(hierarchies::auto(), path.trim_start_matches('/'))
}

#[test]
fn limits_and_processes_are_where_others_look_for_them() {
    let mut b = Bundle::new("sleep 1000");
    b.set(
        "/linux/resources/memory",
        json!({"limit": 64 * MIB, "swap": 64 * MIB}),
    );
    let cpu = json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"});
    b.set("/linux/resources/cpu", cpu);
    b.set("/linux/resources/pids", json!({"limit": 33}));
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    let seen = witness(&b.cgroup);

    let memory: &MemController = seen.controller_of().unwrap();
    assert_eq!(memory.memory_stat().limit_in_bytes, 64 * MIB);
    let cpu: &CpuController = seen.controller_of().unwrap();
    let shares = if cgroup::detect() == Mode::V1 { 512 } else { 59 };
    assert_eq!(cpu.shares().unwrap(), shares);
    assert_eq!(
        (cpu.cfs_quota().unwrap(), cpu.cfs_period().unwrap()),
        (50_000, 100_000)
    );
    let cpus: &CpuSetController = seen.controller_of().unwrap();
    assert_eq!(cpus.cpuset().cpus, [(0, 0)]);
    let pids: &PidController = seen.controller_of().unwrap();
    assert_eq!(pids.get_pid_max().unwrap(), MaxValue::Value(33));

    let init = u64::try_from(running.prepared.pid.as_raw()).unwrap();
    assert_eq!(seen.procs(), [CgroupPid::from(init)]);
    let freezer: &FreezerController = seen.controller_of().unwrap();
    running.prepared.cgroup.freeze(true).unwrap();
    assert!(matches!(freezer.state(), Ok(FreezerState::Frozen)));
    running.prepared.cgroup.freeze(false).unwrap();
    assert!(matches!(freezer.state(), Ok(FreezerState::Thawed)));
}

#[test]
fn what_others_write_is_read_as_they_meant_it() {
    let path = format!("/pintle-witness-{}", std::process::id());
    cgroup::create(&path).unwrap();
    let group = Group(Handle::new(&path).unwrap());
    let other = witness(&path);
    let memory: &MemController = other.controller_of().unwrap();
    memory.set_limit(48 * MIB).unwrap();
    let pids: &PidController = other.controller_of().unwrap();
    pids.set_pid_max(MaxValue::Value(21)).unwrap();

    let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let child = Child(child);
    other
        .add_task_by_tgid(CgroupPid::from(u64::from(child.0.id())))
        .unwrap();
    let found = group.0.processes().unwrap();
    assert_eq!(found, [nix::unistd::Pid::from_raw(child.0.id().cast_signed())]);
    let stats = group.0.stats(Depth::Everything).unwrap();
    assert_eq!(stats.memory.unwrap().limit, Some(48 << 20));
    let pids = stats.pids.unwrap();
    assert_eq!((pids.current, pids.limit), (1, Some(21)));

    let freezer: &FreezerController = other.controller_of().unwrap();
    freezer.freeze().unwrap();
    assert!(group.0.is_frozen());
    freezer.thaw().unwrap();
    // Also a group that others have filled is emptied.
    group.0.remove().unwrap();
    assert!(!other.exists());
}

/// Gone when it is dropped, also after a failure.
struct Group(Handle);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
