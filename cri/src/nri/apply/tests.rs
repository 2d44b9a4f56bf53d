//! Adjustments carried out on a runtime spec.

use oci_spec::runtime::{LinuxNamespaceType, LinuxSchedulerPolicy, MemoryPolicyModeType, PosixRlimitType};

use super::*;
use crate::proto::LinuxContainerUser;
use crate::proto::nri::{
    CdiDevice, IoPrioClass, KeyValue, LinuxContainerAdjustment, LinuxCpu, LinuxDevice, LinuxIoPriority,
    LinuxMemory, LinuxMemoryPolicy, LinuxNamespace, LinuxPids, LinuxResources, LinuxScheduler, LinuxSeccomp,
    LinuxSyscall, MpolMode, OptionalFileMode, OptionalInt, OptionalInt64, OptionalString, OptionalUInt64,
    PosixRlimit,
};
use crate::spec::Seccomp;

const ID: &str = "0123abcd";

fn made() -> ContainerSpec {
    let mut process = oci::Process::default();
    process.set_env(Some(vec!["PATH=/bin".into(), "A=1".into()]));
    let mut data = oci::Mount::default();
    data.set_destination("/data/deep".into());
    let mut linux = oci::Linux::default();
    linux.set_devices(Some(Vec::new()));
    let mut memory = oci::LinuxMemory::default();
    memory.set_limit(Some(64)).set_swap(Some(64));
    linux
        .resources_mut()
        .get_or_insert_default()
        .set_memory(Some(memory));
    let mut spec = oci::Spec::default();
    spec.set_process(Some(process))
        .set_mounts(Some(vec![data]))
        .set_linux(Some(linux));
    ContainerSpec {
        spec,
        user: LinuxContainerUser::default(),
        seccomp: Seccomp::Unconfined,
        cgroup: format!("/pod/{ID}"),
        stop_signal: 15,
        resources: Default::default(),
        relabel: Vec::new(),
    }
}

fn applied(adjust: ContainerAdjustment) -> (ContainerSpec, Rest) {
    let mut made = made();
    let rest = apply(&mut made, ID, adjust).unwrap();
    (made, rest)
}

fn linux(change: impl FnOnce(&mut LinuxContainerAdjustment)) -> ContainerAdjustment {
    let mut linux = LinuxContainerAdjustment::default();
    change(&mut linux);
    ContainerAdjustment {
        linux: Some(linux),
        ..ContainerAdjustment::default()
    }
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
    }
}

#[test]
fn nothing_wanted_changes_nothing() {
    let (after, rest) = applied(ContainerAdjustment::default());
    assert_eq!(after, made());
    assert_eq!(rest, Rest::default());
}

#[test]
fn process_and_files() {
    let (made, _) = applied(ContainerAdjustment {
        env: vec![variable("A", "2"), variable("-PATH", ""), variable("NEW", "a=b")],
        args: vec!["/other".into()],
        mounts: vec![
            Mount {
                destination: "/data".into(),
                source: "/host".into(),
                options: vec!["rbind".into(), "rslave".into()],
                ..Mount::default()
            },
            Mount {
                destination: "-/gone".into(),
                ..Mount::default()
            },
        ],
        annotations: BTreeMap::from([("k".into(), "v".into()), ("-x".into(), String::new())]),
        hooks: Some(Hooks {
            create_runtime: vec![Hook {
                path: "/bin/hook".into(),
                args: vec!["hook".into()],
                timeout: Some(OptionalInt { value: 3 }),
                ..Hook::default()
            }],
            ..Hooks::default()
        }),
        rlimits: vec![PosixRlimit {
            r#type: "RLIMIT_NOFILE".into(),
            hard: 9,
            soft: 5,
        }],
        cdi_devices: vec![CdiDevice { name: "v/c=d".into() }],
        ..ContainerAdjustment::default()
    });
    let process = made.spec.process().as_ref().unwrap();
    assert_eq!(process.env().as_deref().unwrap(), ["A=2", "NEW=a=b"]);
    assert_eq!(process.args().as_deref().unwrap(), ["/other"]);
    let limits = process.rlimits().as_ref().unwrap();
    let files: Vec<_> = limits
        .iter()
        .filter(|l| l.typ() == PosixRlimitType::RlimitNofile)
        .collect();
    assert_eq!(files.len(), 1, "in place of the one that was there");
    assert_eq!((files[0].hard(), files[0].soft()), (9, 5));
    let mounts = made.spec.mounts().as_ref().unwrap();
    let places: Vec<_> = mounts
        .iter()
        .map(|m| m.destination().display().to_string())
        .collect();
    assert_eq!(places, ["/data", "/data/deep"], "the deeper one comes later");
    let root = made.spec.linux().as_ref().unwrap().rootfs_propagation();
    assert_eq!(root.as_deref(), Some("rslave"));
    assert_eq!(made.spec.annotations().as_ref().unwrap()["k"], "v");
    let hooks = made
        .spec
        .hooks()
        .as_ref()
        .unwrap()
        .create_runtime()
        .as_ref()
        .unwrap();
    assert_eq!(
        (hooks[0].path().display().to_string().as_str(), hooks[0].timeout()),
        ("/bin/hook", Some(3))
    );
}

#[test]
fn devices_come_with_their_rules() {
    let (made, _) = applied(linux(|l| {
        l.devices = vec![
            LinuxDevice {
                path: "/dev/x".into(),
                r#type: "c".into(),
                major: 1,
                minor: 3,
                file_mode: Some(OptionalFileMode { value: 0o2_000_666 }),
                ..LinuxDevice::default()
            },
            LinuxDevice {
                path: "-/dev/y".into(),
                ..LinuxDevice::default()
            },
        ];
    }));
    let linux = made.spec.linux().as_ref().unwrap();
    let devices = linux.devices().as_ref().unwrap();
    assert_eq!((devices.len(), devices[0].file_mode()), (1, Some(0o666)));
    let rules = linux.resources().as_ref().unwrap().devices().as_ref().unwrap();
    let rule = rules.last().unwrap();
    assert!(rule.allow());
    assert_eq!((rule.major(), rule.minor()), (Some(1), Some(3)));
}

#[test]
fn limits_lie_over_those_that_are() {
    let (made, rest) = applied(linux(|l| {
        l.resources = Some(LinuxResources {
            memory: Some(LinuxMemory {
                limit: Some(OptionalInt64 { value: 100 }),
                reservation: Some(OptionalInt64 { value: 50 }),
                ..LinuxMemory::default()
            }),
            cpu: Some(LinuxCpu {
                shares: Some(OptionalUInt64 { value: 7 }),
                cpus: "0-1".into(),
                ..LinuxCpu::default()
            }),
            pids: Some(LinuxPids { limit: 12 }),
            unified: BTreeMap::from([("memory.high".into(), "90".into())]),
            blockio_class: Some(OptionalString { value: "slow".into() }),
            rdt_class: Some(OptionalString { value: "gold".into() }),
            ..LinuxResources::default()
        });
    }));
    let linux = made.spec.linux().as_ref().unwrap();
    let limits = linux.resources().as_ref().unwrap();
    let memory = limits.memory().as_ref().unwrap();
    assert_eq!(
        (memory.limit(), memory.swap(), memory.reservation()),
        (Some(100), Some(100), Some(50))
    );
    assert_eq!(limits.cpu().as_ref().unwrap().cpus().as_deref(), Some("0-1"));
    assert_eq!(limits.pids().unwrap().limit(), 12);
    assert_eq!(limits.unified().as_ref().unwrap()["memory.high"], "90");
    assert_eq!(
        linux.intel_rdt().as_ref().unwrap().clos_id().as_deref(),
        Some("gold")
    );
    assert_eq!(rest.blockio_class.as_deref(), Some("slow"));
}

#[test]
fn how_the_process_is_scheduled_and_confined() {
    let (made, _) = applied(linux(|l| {
        l.oom_score_adj = Some(OptionalInt { value: -5 });
        l.io_priority = Some(LinuxIoPriority {
            class: IoPrioClass::IoprioClassBe as i32,
            priority: 6,
        });
        l.scheduler = Some(LinuxScheduler {
            policy: crate::proto::nri::LinuxSchedulerPolicy::SchedBatch as i32,
            nice: 3,
            ..LinuxScheduler::default()
        });
        l.memory_policy = Some(LinuxMemoryPolicy {
            mode: MpolMode::MpolInterleave as i32,
            nodes: "0".into(),
            ..LinuxMemoryPolicy::default()
        });
        l.seccomp_policy = Some(LinuxSeccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            architectures: vec!["SCMP_ARCH_X86_64".into()],
            flags: vec!["SECCOMP_FILTER_FLAG_LOG".into()],
            syscalls: vec![LinuxSyscall {
                names: vec!["mkdirat".into()],
                action: "SCMP_ACT_ERRNO".into(),
                ..LinuxSyscall::default()
            }],
            ..LinuxSeccomp::default()
        });
        l.namespaces = vec![
            LinuxNamespace {
                r#type: "-pid".into(),
                path: String::new(),
            },
            LinuxNamespace {
                r#type: "network".into(),
                path: "/run/ns".into(),
            },
        ];
        l.sysctl = BTreeMap::from([("net.ipv4.ip_forward".into(), "1".into())]);
        l.cgroups_path = format!("/elsewhere/{ID}");
    }));
    let process = made.spec.process().as_ref().unwrap();
    assert_eq!(process.oom_score_adj(), Some(-5));
    assert_eq!(process.io_priority().unwrap().priority(), 6);
    let scheduler = process.scheduler().as_ref().unwrap();
    assert_eq!(*scheduler.policy(), LinuxSchedulerPolicy::SchedBatch);
    let linux = made.spec.linux().as_ref().unwrap();
    let policy = linux.memory_policy().as_ref().unwrap();
    assert_eq!(policy.mode(), MemoryPolicyModeType::MpolInterleave);
    let seccomp = linux.seccomp().as_ref().unwrap();
    assert_eq!(seccomp.syscalls().as_ref().unwrap()[0].names()[0], "mkdirat");
    let namespaces = linux.namespaces().as_ref().unwrap();
    assert!(!namespaces.iter().any(|ns| ns.typ() == LinuxNamespaceType::Pid));
    let net: Vec<_> = namespaces
        .iter()
        .filter(|ns| ns.typ() == LinuxNamespaceType::Network)
        .collect();
    assert_eq!(
        (net.len(), net[0].path().as_deref()),
        (1, Some(Path::new("/run/ns")))
    );
    assert_eq!(linux.sysctl().as_ref().unwrap()["net.ipv4.ip_forward"], "1");
    assert_eq!(made.cgroup, format!("/elsewhere/{ID}"));
    assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new(&made.cgroup)));
}

#[test]
fn what_can_not_be_is_refused() {
    let mount = |destination: &str| ContainerAdjustment {
        mounts: vec![Mount {
            destination: destination.into(),
            ..Mount::default()
        }],
        ..ContainerAdjustment::default()
    };
    let env = |key: &str| ContainerAdjustment {
        env: vec![variable(key, "")],
        ..ContainerAdjustment::default()
    };
    let rlimit = |kind: &str, hard, soft| ContainerAdjustment {
        rlimits: vec![PosixRlimit {
            r#type: kind.into(),
            hard,
            soft,
        }],
        ..ContainerAdjustment::default()
    };
    let cgroup = |path: &str| linux(|l| l.cgroups_path = path.into());
    let unified = |key: &str| {
        linux(|l| {
            l.resources = Some(LinuxResources {
                unified: BTreeMap::from([(key.into(), "1".into())]),
                ..LinuxResources::default()
            });
        })
    };
    for wanted in [
        mount("relative"),
        mount("/a/../etc"),
        mount(""),
        env(""),
        env("A=B"),
        rlimit("RLIMIT_FISH", 1, 1),
        rlimit("RLIMIT_CORE", 1, 2),
        cgroup("/"),
        cgroup("/kubepods"),
        cgroup(&format!("/a/../{ID}")),
        cgroup(&format!("a.slice:pintle:{ID}")),
        unified("../../memory.max"),
        unified("memory"),
        linux(|l| l.oom_score_adj = Some(OptionalInt { value: 1001 })),
        linux(|l| {
            l.namespaces = vec![LinuxNamespace {
                r#type: "fish".into(),
                path: String::new(),
            }];
        }),
        linux(|l| {
            l.seccomp_policy = Some(LinuxSeccomp {
                default_action: "ALLOW".into(),
                ..LinuxSeccomp::default()
            });
        }),
        linux(|l| {
            l.devices = vec![LinuxDevice {
                path: "/dev/x".into(),
                r#type: "z".into(),
                ..LinuxDevice::default()
            }];
        }),
        linux(|l| drop(l.net_devices.insert("a/b".into(), Default::default()))),
    ] {
        let refused = apply(&mut made(), ID, wanted.clone());
        assert!(matches!(refused, Err(NriError::Adjustment { .. })), "{wanted:?}");
    }
}
