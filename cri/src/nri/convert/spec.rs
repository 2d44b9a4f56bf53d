//! What a runtime spec tells of a container.

use oci_spec::runtime as oci;

use super::resources;
use crate::proto::nri::{
    Container, Hook, Hooks, IoPrioClass, LinuxContainer, LinuxDevice, LinuxIoPriority, LinuxNamespace,
    LinuxNetDevice, LinuxRdt, LinuxScheduler, LinuxSchedulerPolicy, Mount, OptionalBool, OptionalFileMode,
    OptionalInt, OptionalRepeatedString, OptionalString, OptionalUInt32, PosixRlimit, User,
};

/// A container with what its spec tells, and nothing else.
pub(super) fn parts(spec: &oci::Spec) -> Container {
    let mut container = Container {
        annotations: spec
            .annotations()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        mounts: spec.mounts().iter().flatten().map(mount).collect(),
        hooks: spec.hooks().as_ref().map(hooks),
        linux: spec.linux().as_ref().map(linux),
        ..Container::default()
    };
    if let Some(process) = spec.process() {
        of_process(&mut container, process);
    }
    container
}

fn of_process(container: &mut Container, process: &oci::Process) {
    container.args = process.args().clone().unwrap_or_default();
    container.env = process.env().clone().unwrap_or_default();
    container.rlimits = process
        .rlimits()
        .iter()
        .flatten()
        .map(|limit| PosixRlimit {
            r#type: limit.typ().to_string(),
            hard: limit.hard(),
            soft: limit.soft(),
        })
        .collect();
    container.user = Some(User {
        uid: process.user().uid(),
        gid: process.user().gid(),
        additional_gids: process.user().additional_gids().clone().unwrap_or_default(),
    });
    let linux = container.linux.get_or_insert_default();
    linux.oom_score_adj = process.oom_score_adj().map(|value| OptionalInt {
        value: i64::from(value),
    });
    linux.io_priority = process.io_priority().as_ref().map(|priority| LinuxIoPriority {
        class: IoPrioClass::from_str_name(&priority.class().to_string()).map_or(0, |class| class as i32),
        priority: i32::try_from(priority.priority()).unwrap_or(0),
    });
    linux.scheduler = process.scheduler().as_ref().map(scheduler);
}

fn scheduler(scheduler: &oci::Scheduler) -> LinuxScheduler {
    let policy = LinuxSchedulerPolicy::from_str_name(&scheduler.policy().to_string());
    LinuxScheduler {
        policy: policy.map_or(0, |policy| policy as i32),
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0),
        // No spec of ours has any before plugins had their say.
        flags: Vec::new(),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    }
}

fn mount(mount: &oci::Mount) -> Mount {
    let source = mount.source().as_ref();
    Mount {
        destination: mount.destination().display().to_string(),
        r#type: mount.typ().clone().unwrap_or_default(),
        source: source.map(|path| path.display().to_string()).unwrap_or_default(),
        options: mount.options().clone().unwrap_or_default(),
    }
}

fn hooks(hooks: &oci::Hooks) -> Hooks {
    let all = |hooks: &Option<Vec<oci::Hook>>| hooks.iter().flatten().map(hook).collect();
    Hooks {
        prestart: all(hooks.prestart()),
        create_runtime: all(hooks.create_runtime()),
        create_container: all(hooks.create_container()),
        start_container: all(hooks.start_container()),
        poststart: all(hooks.poststart()),
        poststop: all(hooks.poststop()),
    }
}

fn hook(hook: &oci::Hook) -> Hook {
    Hook {
        path: hook.path().display().to_string(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        timeout: hook.timeout().map(|value| OptionalInt { value }),
    }
}

fn linux(linux: &oci::Linux) -> LinuxContainer {
    let path = linux.cgroups_path().as_ref();
    LinuxContainer {
        namespaces: linux
            .namespaces()
            .iter()
            .flatten()
            .map(|ns| LinuxNamespace {
                r#type: namespace_name(ns.typ()).to_owned(),
                path: ns
                    .path()
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            })
            .collect(),
        devices: linux.devices().iter().flatten().map(device).collect(),
        resources: linux.resources().as_ref().map(resources::from_oci),
        cgroups_path: path.map(|path| path.display().to_string()).unwrap_or_default(),
        sysctl: linux.sysctl().clone().unwrap_or_default().into_iter().collect(),
        net_devices: linux
            .net_devices()
            .iter()
            .flatten()
            .map(|(host, device)| {
                let name = device.name().clone().unwrap_or_default();
                (host.clone(), LinuxNetDevice { name })
            })
            .collect(),
        rdt: linux.intel_rdt().as_ref().map(|rdt| LinuxRdt {
            clos_id: rdt.clos_id().clone().map(|value| OptionalString { value }),
            schemata: rdt
                .schemata()
                .clone()
                .map(|value| OptionalRepeatedString { value }),
            enable_monitoring: rdt.enable_monitoring().map(|value| OptionalBool { value }),
            remove: false,
        }),
        ..LinuxContainer::default()
    }
}

fn device(device: &oci::LinuxDevice) -> LinuxDevice {
    LinuxDevice {
        path: device.path().display().to_string(),
        r#type: device.typ().as_str().to_owned(),
        major: device.major(),
        minor: device.minor(),
        file_mode: device.file_mode().map(|value| OptionalFileMode { value }),
        uid: device.uid().map(|value| OptionalUInt32 { value }),
        gid: device.gid().map(|value| OptionalUInt32 { value }),
    }
}

/// A kind of namespace as the runtime specification writes it.
pub(in crate::nri) fn namespace_name(kind: oci::LinuxNamespaceType) -> &'static str {
    match kind {
        oci::LinuxNamespaceType::Mount => "mount",
        oci::LinuxNamespaceType::Cgroup => "cgroup",
        oci::LinuxNamespaceType::Uts => "uts",
        oci::LinuxNamespaceType::Ipc => "ipc",
        oci::LinuxNamespaceType::User => "user",
        oci::LinuxNamespaceType::Pid => "pid",
        oci::LinuxNamespaceType::Network => "network",
        oci::LinuxNamespaceType::Time => "time",
    }
}

/// The kind of namespace that the runtime specification writes so.
pub(in crate::nri) fn namespace(name: &str) -> Option<oci::LinuxNamespaceType> {
    use oci::LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
    [Mount, Cgroup, Uts, Ipc, User, Pid, Network, Time]
        .into_iter()
        .find(|kind| namespace_name(*kind) == name)
}
