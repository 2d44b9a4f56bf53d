//! The configuration as serde sees it: the file's own types, every setting present.

use serde::Deserialize;

use super::ValidatorConfig;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) root: String,
    pub(super) state: String,
    pub(super) socket: String,
    pub(super) socket_mode: i64,
    pub(super) monitor: String,
    pub(super) log_level: String,
    pub(super) cgroup_driver: String,
    pub(super) cgroup_parent: String,
    pub(super) network: RawNetwork,
    pub(super) images: RawImages,
    pub(super) runtime: RawRuntime,
    pub(super) inspection: RawInspection,
    pub(super) streaming: RawStreaming,
    pub(super) checkpoint: RawCheckpoint,
    pub(super) nri: RawNri,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNetwork {
    pub(super) bridge: String,
    pub(super) ranges: Vec<String>,
    pub(super) mtu: i64,
    pub(super) masquerade: bool,
    pub(super) hairpin: bool,
    pub(super) cni_conf_dir: String,
    pub(super) cni_bin_dirs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawImages {
    pub(super) certs_dir: String,
    pub(super) auth_file: String,
    pub(super) signature_policy: String,
    pub(super) insecure_registries: Vec<String>,
    pub(super) pinned: Vec<String>,
    pub(super) max_concurrent_layers: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a configuration file")]
pub(super) struct RawRuntime {
    pub(super) default_handler: String,
    pub(super) handlers: Vec<String>,
    pub(super) default_ulimits: Vec<String>,
    pub(super) default_capabilities: Vec<String>,
    pub(super) log_max_line: i64,
    pub(super) log_mode: i64,
    pub(super) sync_rootfs: bool,
    pub(super) unprivileged_ports: bool,
    pub(super) unprivileged_ping: bool,
    pub(super) seccomp_default: String,
    pub(super) privileged_without_host_devices: bool,
    pub(super) device_ownership_from_security_context: bool,
    pub(super) pids_limit: i64,
    pub(super) pod_annotations: Vec<String>,
    pub(super) container_annotations: Vec<String>,
    pub(super) cdi_dirs: Vec<String>,
    pub(super) hooks_dirs: Vec<String>,
    pub(super) blockio_config_file: String,
    pub(super) rdt_config_file: String,
    pub(super) resctrl_root: String,
}

/// What a handler has beside the settings of `[runtime]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHandler {
    pub(super) path: String,
    pub(super) options: Vec<String>,
    pub(super) root: String,
    pub(super) base_spec: String,
    pub(super) snapshots_dir: String,
    pub(super) cni_conf_dir: String,
    pub(super) devices: Vec<String>,
    pub(super) device_rules: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInspection {
    pub(super) socket: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStreaming {
    pub(super) address: String,
    pub(super) port: i64,
    pub(super) tls_cert: String,
    pub(super) tls_key: String,
    pub(super) idle_timeout: i64,
    pub(super) creation_timeout: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCheckpoint {
    pub(super) enable: bool,
    pub(super) criu: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNri {
    pub(super) disable: bool,
    pub(super) socket_path: String,
    pub(super) plugin_path: String,
    pub(super) plugin_config_path: String,
    pub(super) plugin_registration_timeout: String,
    pub(super) plugin_request_timeout: String,
    pub(super) disable_connections: bool,
    pub(super) default_validator: ValidatorConfig,
}
