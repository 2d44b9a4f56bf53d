//! Configurations of pods and containers that say something of everything, for changes to reach it.

use k8s_cri::v1::{
    Capability, ContainerConfig, Device, DnsConfig, HugepageLimit, Int64Value, KeyValue,
    LinuxContainerResources, PodSandboxConfig, PortMapping,
};
use pintle_tests::pod;

use super::base::Base;

/// A pod beside the one there is, each time of another name.
pub(crate) fn full_pod(base: &Base) -> PodSandboxConfig {
    let mut config = base.config.clone();
    config.metadata.get_or_insert_default().attempt = u32::try_from(base.made).unwrap_or_default();
    config.annotations = [("key".into(), "value".into())].into();
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.0.0.10".into()],
        searches: vec!["test.svc".into()],
        options: vec!["ndots:5".into()],
    });
    config.port_mappings = vec![PortMapping {
        container_port: 80,
        host_ip: "127.0.0.1".into(),
        ..Default::default()
    }];
    let linux = config.linux.get_or_insert_default();
    // What a new network namespace has anyway, should it be set where it shouldn't.
    linux.sysctls = [("net.ipv4.ip_unprivileged_port_start".into(), "1024".into())].into();
    linux.overhead = Some(resources());
    linux.resources = Some(resources());
    linux.security_context.get_or_insert_default().supplemental_groups = vec![5, 6];
    config
}

/// Limits as a kubelet sends them.
pub(crate) fn resources() -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 102,
        memory_limit_in_bytes: 128 << 20,
        memory_swap_limit_in_bytes: 128 << 20,
        oom_score_adj: 900,
        cpuset_cpus: "0".into(),
        cpuset_mems: "0".into(),
        hugepage_limits: vec![HugepageLimit {
            page_size: "2MB".into(),
            limit: 0,
        }],
        ..Default::default()
    }
}

/// A container, each time of another name.
pub(crate) fn full_container(base: &Base) -> ContainerConfig {
    let mut config = pod::idle(&format!("c{}", base.made), &base.image);
    config = pod::with_mount(config, &base.folder, "/data", true);
    config.working_dir = "/tmp".into();
    config.args = vec!["one".into()];
    config.envs = vec![KeyValue {
        key: "KEY".into(),
        value: "value".into(),
    }];
    config.devices = vec![Device {
        container_path: "/dev/none".into(),
        host_path: "/dev/null".into(),
        permissions: "rw".into(),
    }];
    config.annotations = [("key".into(), "value".into())].into();
    *pod::resources(&mut config) = resources();
    let security = pod::security(&mut config);
    security.capabilities = Some(Capability {
        add_capabilities: vec!["NET_ADMIN".into()],
        drop_capabilities: vec!["CHOWN".into()],
        ..Default::default()
    });
    security.run_as_user = Some(Int64Value { value: 1000 });
    security.run_as_group = Some(Int64Value { value: 1000 });
    security.supplemental_groups = vec![7, 8];
    security.masked_paths = vec!["/proc/kcore".into()];
    security.readonly_paths = vec!["/proc/sys".into()];
    config
}
