//! Several plugins' wishes for one container.

use super::*;
use crate::proto::nri::{
    CdiDevice, Hook, HugepageLimit, KeyValue, LinuxCpu, LinuxDevice, LinuxIoPriority, LinuxMemory,
    LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice, LinuxPids, LinuxScheduler, LinuxSeccomp, Mount,
    OptionalInt, OptionalInt64, OptionalString, OptionalUInt64, PosixRlimit,
};

fn container() -> Container {
    Container {
        id: "c1".into(),
        args: vec!["/bin/sh".into()],
        env: vec!["PATH=/bin".into(), "A=1".into()],
        mounts: vec![mount("/data")],
        annotations: BTreeMap::from([("old".into(), "1".into())]),
        ..Container::default()
    }
}

fn mount(destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        source: "/host".into(),
        ..Mount::default()
    }
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
    }
}

fn linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment {
        linux: Some(linux),
        ..ContainerAdjustment::default()
    }
}

fn shares(value: u64) -> LinuxResources {
    LinuxResources {
        cpu: Some(LinuxCpu {
            shares: Some(OptionalUInt64 { value }),
            ..LinuxCpu::default()
        }),
        ..LinuxResources::default()
    }
}

fn update(id: &str, limits: LinuxResources, ignore_failure: bool) -> ContainerUpdate {
    ContainerUpdate {
        container_id: id.into(),
        linux: Some(LinuxContainerUpdate {
            resources: Some(limits),
        }),
        ignore_failure,
    }
}

/// A field's name in messages, and an adjustment that sets it.
type Wish = (&'static str, ContainerAdjustment);

/// Every field that one plugin alone may set, set.
fn everything() -> Vec<Wish> {
    [of_container(), of_linux(), of_limits()].concat()
}

fn of_container() -> Vec<Wish> {
    let plain = |name, change: fn(&mut ContainerAdjustment)| {
        let mut wanted = ContainerAdjustment::default();
        change(&mut wanted);
        (name, wanted)
    };
    vec![
        plain("Annotations \"k\"", |a| {
            a.annotations = BTreeMap::from([("k".into(), "v".into())]);
        }),
        plain("Mounts \"/m\"", |a| a.mounts = vec![mount("/m")]),
        plain("Env \"K\"", |a| a.env = vec![variable("K", "v")]),
        plain("Args", |a| a.args = vec!["x".into()]),
        plain("Rlimits \"RLIMIT_CORE\"", |a| {
            let r#type = "RLIMIT_CORE".into();
            a.rlimits = vec![PosixRlimit {
                r#type,
                hard: 1,
                soft: 1,
            }];
        }),
        plain("CdiDevices \"a/b=c\"", |a| {
            let name = "a/b=c".into();
            a.cdi_devices = vec![CdiDevice { name }];
        }),
    ]
}

fn of_linux() -> Vec<Wish> {
    let of = |name, change: fn(&mut LinuxContainerAdjustment)| {
        let mut wanted = LinuxContainerAdjustment::default();
        change(&mut wanted);
        (name, linux(wanted))
    };
    vec![
        of("Devices \"/dev/x\"", |l| {
            let path = "/dev/x".into();
            l.devices = vec![LinuxDevice {
                path,
                ..LinuxDevice::default()
            }];
        }),
        of("Namespace \"uts\"", |l| {
            let (r#type, path) = ("uts".into(), String::new());
            l.namespaces = vec![LinuxNamespace { r#type, path }];
        }),
        of("Sysctl \"net.x\"", |l| {
            drop(l.sysctl.insert("net.x".into(), "1".into()));
        }),
        of("LinuxNetDevices \"eth7\"", |l| {
            drop(l.net_devices.insert("eth7".into(), LinuxNetDevice::default()));
        }),
        of("CgroupsPath", |l| l.cgroups_path = "/x".into()),
        of("OomScoreAdj", |l| {
            l.oom_score_adj = Some(OptionalInt { value: 1 });
        }),
        of("IoPriority", |l| l.io_priority = Some(LinuxIoPriority::default())),
        of("SeccompPolicy", |l| {
            l.seccomp_policy = Some(LinuxSeccomp::default());
        }),
        of("LinuxSched", |l| l.scheduler = Some(LinuxScheduler::default())),
        of("MemoryPolicy", |l| {
            l.memory_policy = Some(LinuxMemoryPolicy::default());
        }),
        of("RdtClosID", |l| {
            let clos_id = Some(OptionalString { value: "x".into() });
            l.rdt = Some(LinuxRdt {
                clos_id,
                ..LinuxRdt::default()
            });
        }),
    ]
}

fn of_limits() -> Vec<Wish> {
    let of = |name, change: fn(&mut LinuxResources)| {
        let mut limits = LinuxResources::default();
        change(&mut limits);
        let resources = Some(limits);
        (
            name,
            linux(LinuxContainerAdjustment {
                resources,
                ..LinuxContainerAdjustment::default()
            }),
        )
    };
    vec![
        of("CPUShares", |l| *l = shares(2)),
        of("MemLimit", |l| {
            let limit = Some(OptionalInt64 { value: 1 });
            l.memory = Some(LinuxMemory {
                limit,
                ..LinuxMemory::default()
            });
        }),
        of("PidsLimit", |l| l.pids = Some(LinuxPids { limit: 5 })),
        of("HugepageLimits \"2MB\"", |l| {
            let page_size = "2MB".into();
            l.hugepage_limits = vec![HugepageLimit { page_size, limit: 1 }];
        }),
        of("CgroupsUnified \"memory.high\"", |l| {
            drop(l.unified.insert("memory.high".into(), "1".into()));
        }),
        of("BlockioClass", |l| {
            l.blockio_class = Some(OptionalString { value: "x".into() });
        }),
        of("RdtClass", |l| {
            l.rdt_class = Some(OptionalString { value: "x".into() });
        }),
    ]
}

#[test]
fn nothing_can_be_set_by_two() {
    for (what, wanted) in everything() {
        let mut merge = Merge::new(container());
        merge.adjust("10-a", wanted.clone()).unwrap();
        let error = merge.adjust("20-b", wanted).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("NRI plugins 20-b and 10-a both tried to set {what}")
        );
    }
}

#[test]
fn all_that_different_plugins_want_comes_together() {
    let mut merge = Merge::new(container());
    for (number, (_, wanted)) in everything().into_iter().enumerate() {
        merge.adjust(&format!("10-{number}"), wanted).unwrap();
    }
    let all = &merge.adjust;
    let linux = all.linux.as_ref().unwrap();
    assert_eq!(
        (
            all.mounts.len(),
            all.env.len(),
            all.rlimits.len(),
            all.cdi_devices.len()
        ),
        (1, 1, 1, 1)
    );
    assert_eq!(
        (linux.devices.len(), linux.namespaces.len(), linux.sysctl.len()),
        (1, 1, 1)
    );
    let limits = linux.resources.as_ref().unwrap();
    assert!(limits.pids.is_some() && limits.cpu.is_some() && limits.memory.is_some());
    // and the next plugin sees the container so
    let shown = &merge.container;
    assert_eq!(shown.env, ["PATH=/bin", "A=1", "K=v"]);
    assert_eq!(shown.args, ["x"]);
    assert_eq!(shown.mounts.len(), 2);
}

#[test]
fn what_is_taken_away_is_gone_for_the_next_and_belongs_to_who_took_it() {
    let mut merge = Merge::new(container());
    let set = |key: &str| ContainerAdjustment {
        env: vec![variable(key, "2")],
        mounts: vec![mount("/m")],
        ..ContainerAdjustment::default()
    };
    let remove = ContainerAdjustment {
        env: vec![variable("-A", ""), variable("-B", "")],
        mounts: vec![mount("-/m"), mount("-/data")],
        annotations: BTreeMap::from([("-old".into(), String::new())]),
        ..ContainerAdjustment::default()
    };
    merge.adjust("10-a", set("B")).unwrap();
    merge.adjust("20-b", remove).unwrap();
    assert_eq!(merge.container.env, ["PATH=/bin"]);
    assert!(merge.container.mounts.is_empty() && merge.container.annotations.is_empty());
    let destinations: Vec<_> = merge
        .adjust
        .mounts
        .iter()
        .map(|m| m.destination.as_str())
        .collect();
    assert_eq!(destinations, ["-/m", "-/data"]);
    assert!(merge.adjust.annotations.contains_key("-old"));
    let error = merge.adjust("30-c", set("B")).unwrap_err().to_string();
    assert!(error.contains("30-c") && error.contains("20-b"), "{error}");
}

#[test]
fn a_plugin_replaces_what_another_set_by_taking_it_away_first() {
    let mut merge = Merge::new(container());
    let set = |key: &str, value: &str| ContainerAdjustment {
        env: vec![variable(key, value)],
        args: vec![value.into()],
        ..ContainerAdjustment::default()
    };
    merge.adjust("10-a", set("B", "1")).unwrap();
    let replace = ContainerAdjustment {
        env: vec![variable("-B", ""), variable("B", "2")],
        args: vec![String::new(), "2".into()],
        ..ContainerAdjustment::default()
    };
    merge.adjust("20-b", replace).unwrap();
    assert_eq!(merge.adjust.env, [variable("B", "2")]);
    assert_eq!(
        (&merge.adjust.args, &merge.container.args),
        (&vec!["2".to_owned()], &vec!["2".to_owned()])
    );
}

#[test]
fn hooks_add_up() {
    let mut merge = Merge::new(container());
    for plugin in ["10-a", "20-b"] {
        let hooks = Hooks {
            create_runtime: vec![Hook {
                path: format!("/{plugin}"),
                ..Hook::default()
            }],
            ..Hooks::default()
        };
        let wanted = ContainerAdjustment {
            hooks: Some(hooks),
            ..ContainerAdjustment::default()
        };
        merge.adjust(plugin, wanted).unwrap();
    }
    assert_eq!(merge.adjust.hooks.as_ref().unwrap().create_runtime.len(), 2);
    assert_eq!(merge.owners.owner("c1", Field::OciHooks, None), Some("10-a,20-b"));
}

#[test]
fn updates_of_others_merge_and_conflict_alike() {
    let mut merge = Merge::new(container());
    merge
        .update("10-a", vec![update("c2", shares(2), false)], true)
        .unwrap();
    let pids = LinuxResources {
        pids: Some(LinuxPids { limit: 7 }),
        ..LinuxResources::default()
    };
    merge
        .update("20-b", vec![update("c2", pids, true)], true)
        .unwrap();
    let both = merge.updates["c2"]
        .linux
        .as_ref()
        .unwrap()
        .resources
        .as_ref()
        .unwrap();
    assert!(both.cpu.is_some() && both.pids.is_some());
    assert!(!merge.updates["c2"].ignore_failure);

    merge
        .update("30-c", vec![update("c2", shares(3), true)], true)
        .unwrap();
    let kept = merge.updates["c2"]
        .linux
        .as_ref()
        .unwrap()
        .resources
        .clone()
        .unwrap();
    assert_eq!(
        kept.cpu.unwrap().shares.unwrap().value,
        2,
        "a conflict that may fail changes nothing"
    );
    assert!(
        merge
            .update("30-c", vec![update("c2", shares(3), false)], true)
            .is_err()
    );
    let own = merge.update("10-a", vec![update("c1", shares(9), false)], true);
    assert!(matches!(own, Err(NriError::UpdateInCreation { .. })));
}

#[test]
fn new_limits_of_the_container_itself_lie_over_those_asked_for() {
    let mut merge = Merge::new(container());
    let asked = LinuxResources {
        memory: Some(LinuxMemory {
            limit: Some(OptionalInt64 { value: 64 }),
            ..LinuxMemory::default()
        }),
        ..shares(10)
    };
    assert_eq!(merge.limits_over(&asked), asked);
    merge
        .update("10-a", vec![update("c1", shares(99), false)], false)
        .unwrap();
    let limits = merge.limits_over(&asked);
    assert_eq!(limits.cpu.unwrap().shares.unwrap().value, 99);
    assert_eq!(limits.memory.unwrap().limit.unwrap().value, 64);
}
