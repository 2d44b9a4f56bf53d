//! The configurations of pods and containers that the tests start from, filled in as a kubelet would.

use std::sync::atomic::{AtomicU64, Ordering};

use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, SecurityProfile, security_profile::ProfileType,
};

use crate::cri;
use crate::slot::Slot;

static SERIAL: AtomicU64 = AtomicU64::new(1);

/// A pod with a network, its logs under the slot, its cgroup below the slot's.
pub fn pod(slot: &Slot, name: &str) -> PodSandboxConfig {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{serial}"),
            namespace: "test".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: slot
            .root()
            .join("logs")
            .join(format!("{name}-{serial}"))
            .display()
            .to_string(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: slot.cgroup(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(NamespaceMode::Pod)),
                seccomp: Some(runtime_default()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The same pod on the host's network.
pub fn on_host_network(mut config: PodSandboxConfig) -> PodSandboxConfig {
    // A hostname of its own needs a namespace of its own, which CRI gives no pod on the host's network.
    config.hostname = String::new();
    if let Some(context) = config
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut())
    {
        context.namespace_options = Some(namespaces(NamespaceMode::Node));
    }
    config
}

fn namespaces(network: NamespaceMode) -> NamespaceOption {
    NamespaceOption {
        network: network.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

fn runtime_default() -> SecurityProfile {
    SecurityProfile {
        profile_type: ProfileType::RuntimeDefault.into(),
        localhost_ref: String::new(),
    }
}

/// A container that runs `command`, with RuntimeDefault seccomp and a 128 MiB limit.
pub fn container(name: &str, image: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(cri::spec(image)),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}/0.log"),
        labels: [("container".to_owned(), name.to_owned())].into(),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                memory_limit_in_bytes: 128 << 20,
                cpu_shares: 102,
                oom_score_adj: 900,
                ..Default::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(namespaces(NamespaceMode::Pod)),
                seccomp: Some(runtime_default()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// The same container in a pod on the host's network.
pub fn container_on_host_network(mut config: ContainerConfig) -> ContainerConfig {
    security(&mut config).namespace_options = Some(namespaces(NamespaceMode::Node));
    config
}

/// A container that runs a shell script.
pub fn shell(name: &str, image: &str, script: &str) -> ContainerConfig {
    container(name, image, &["/bin/sh", "-c", script])
}

/// A container that does nothing until it is told to end, and then ends at once.
pub fn idle(name: &str, image: &str) -> ContainerConfig {
    shell(name, image, "trap 'exit 0' TERM; sleep 86400 & wait")
}

/// Adds a bind mount of a host path.
pub fn with_mount(mut config: ContainerConfig, host: &str, inside: &str, readonly: bool) -> ContainerConfig {
    let (host_path, container_path) = (host.to_owned(), inside.to_owned());
    config.mounts.push(Mount {
        host_path,
        container_path,
        readonly,
        ..Default::default()
    });
    config
}

/// The security context, for tests that change it.
pub fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// The resources, for tests that change them.
pub fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config
        .linux
        .get_or_insert_default()
        .resources
        .get_or_insert_default()
}
