//! The daemon's configuration: a TOML file over built-in defaults, resolved and validated before anything is done.
//!
//! ```text
//! keys.rs    the one table of settings: name, default, explanation (handler_keys.rs: those of handlers alone)
//! merge.rs   the file's values laid over the table's, each checked against the table
//! raw.rs     the result as serde sees it
//! resolve.rs raw values to validated ones
//! handlers.rs the same for [runtimes.NAME], which has the settings of [runtime] and some more
//! ```

mod error;
mod handler_keys;
mod handlers;
mod keys;
mod merge;
mod nri;
mod raw;
mod resolve;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use oci_spec::runtime::{Capability, PosixRlimit};
use serde::Deserialize;

pub use error::ConfigError;
pub use handlers::{Handler, OciProgram};

/// Read where it exists, if no other file is named.
pub const DEFAULT_PATH: &str = "/etc/pintle/config.toml";

/// The validated configuration of one daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    root: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    socket_mode: u32,
    monitor: Option<PathBuf>,
    log_level: String,
    cgroup_driver: CgroupDriver,
    cgroup_parent: String,
    network: NetworkConfig,
    images: ImagesConfig,
    runtime: RuntimeConfig,
    handlers: Vec<Handler>,
    inspection_socket: Option<PathBuf>,
    streaming: StreamingConfig,
    checkpoint: CheckpointConfig,
    nri: NriConfig,
}

/// Who makes the cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// systemd where it is the host's first process, ourselves elsewhere.
    Auto,
    /// Ourselves, in the cgroup file system.
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
}

/// `[network]`: pods' network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// Name of the built-in bridge.
    pub bridge: String,
    /// Where pods get their addresses until kubelet names the node's pod CIDR; at most one of each family.
    pub ranges: Vec<IpNet>,
    /// None for that of the host's default route.
    pub mtu: Option<u32>,
    /// Hide pods behind the host's address when they leave the node.
    pub masquerade: bool,
    /// Let a pod reach itself through its host port.
    pub hairpin: bool,
    /// A configuration here is used in place of the built-in bridge.
    pub cni_conf_dir: PathBuf,
    /// Where CNI programs lie.
    pub cni_bin_dirs: Vec<PathBuf>,
}

/// `[images]`: the image store.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagesConfig {
    /// `hosts.toml` files by registry; None for none.
    pub certs_dir: Option<PathBuf>,
    /// The node's credentials, as docker's `config.json`; None for none.
    pub auth_file: Option<PathBuf>,
    /// Whose signatures images must have; None for nobody's.
    pub signature_policy: Option<PathBuf>,
    /// Registries, `host` or `host:port`, spoken to over plain HTTP.
    pub insecure_registries: Vec<String>,
    /// References of images that are never collected; `*` at the end matches anything.
    pub pinned: Vec<String>,
    /// Layers of one image that are fetched at once.
    pub max_concurrent_layers: usize,
}

/// `[runtime]`: what containers get where a request says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeConfig {
    /// Name of the default runtime handler.
    pub default_handler: String,
    /// Limits of every container.
    pub default_ulimits: Vec<PosixRlimit>,
    /// Capabilities of a container that neither adds nor drops any.
    pub default_capabilities: Vec<Capability>,
    /// Longest line of a container's log, in bytes of content.
    pub log_max_line: usize,
    /// Mode of log files.
    pub log_mode: u32,
    /// Whether fsync(2) in a container's own layer, and its end, wait for the disk.
    pub sync_rootfs: bool,
    /// Let every user of a pod bind ports below 1024.
    pub unprivileged_ports: bool,
    /// Let every group of a pod open ICMP echo sockets.
    pub unprivileged_ping: bool,
    /// Whether RuntimeDefault seccomp applies to containers that name no profile.
    pub seccomp_default: bool,
    /// Keep the host's devices out of privileged containers.
    pub privileged_without_host_devices: bool,
    /// Give device nodes to the user and group that the container runs as.
    pub device_ownership_from_security_context: bool,
    /// Most processes in a container; None for no limit of ours.
    pub pids_limit: Option<i64>,
    /// Pod annotations that are copied into the runtime spec; `*` at the end matches anything.
    pub pod_annotations: Vec<String>,
    /// As `pod_annotations`, for containers' own.
    pub container_annotations: Vec<String>,
    /// Where vendors describe devices; later folders go before.
    pub cdi_dirs: Vec<PathBuf>,
    /// Folders of hooks; later ones go before.
    pub hooks_dirs: Vec<PathBuf>,
    /// Classes of block I/O; None for none.
    pub blockio_config_file: Option<PathBuf>,
    /// Classes of RDT, which are made at the start; None for those that somebody else has made.
    pub rdt_config_file: Option<PathBuf>,
    /// Where resctrl is mounted.
    pub resctrl_root: PathBuf,
    /// Begins the names of cgroups; empty for the driver's own manner.
    pub cgroup_prefix: String,
}

/// `[streaming]`: exec, attach and port-forward.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamingConfig {
    /// Where the streaming server listens; port 0 for any that is free.
    pub address: SocketAddr,
    /// Its identity; None for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How long a session may be silent.
    pub idle_timeout: Duration,
    /// How long a client may take to open its streams.
    pub creation_timeout: Duration,
}

/// `[checkpoint]`: checkpoint and restore by criu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Whether that may be asked for.
    pub enable: bool,
    /// The program: a path, or a name.
    pub criu: String,
}

/// `[nri]`: plugins that have their say about containers.
#[derive(Debug, Clone, PartialEq)]
pub struct NriConfig {
    /// No plugins at all.
    pub disable: bool,
    /// Where plugins connect.
    pub socket_path: PathBuf,
    /// Folder of plugins that the daemon starts.
    pub plugin_path: PathBuf,
    /// Folder of their configurations.
    pub plugin_config_path: PathBuf,
    /// How long a plugin may take to register, and to take in what there is.
    pub plugin_registration_timeout: Duration,
    /// How long a plugin may take for one request.
    pub plugin_request_timeout: Duration,
    /// Only plugins that the daemon starts.
    pub disable_connections: bool,
    /// What plugins may not do, and which there must be.
    pub default_validator: ValidatorConfig,
}

/// `nri.default_validator`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a configuration file")]
pub struct ValidatorConfig {
    /// Whether the rest has an effect.
    pub enable: bool,
    /// No plugin may add OCI hooks.
    pub reject_oci_hook_adjustment: bool,
    /// Nor change the seccomp policy of a container that has the runtime's default.
    pub reject_runtime_default_seccomp_adjustment: bool,
    /// Nor that of one that has none.
    pub reject_unconfined_seccomp_adjustment: bool,
    /// Nor that of one that has another.
    pub reject_custom_seccomp_adjustment: bool,
    /// Nor change namespaces.
    pub reject_namespace_adjustment: bool,
    /// Nor sysctls.
    pub reject_sysctl_adjustment: bool,
    /// Plugins, as `name` or `NN-name`, without which no container is created.
    pub required_plugins: Vec<String>,
    /// The annotation by which a pod does without them; empty for none.
    pub tolerate_missing_plugins_annotation: String,
}

/// PEM files of a TLS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those of its issuers.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Config {
    /// Reads the file, or [`DEFAULT_PATH`] where that exists.
    ///
    /// # Errors
    /// The file can't be read, isn't TOML, or has an unknown key or a bad value.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match fs::read_to_string(file) {
            Ok(text) => Self::from_toml(&text).map_err(|e| e.in_file(file)),
            Err(e) if path.is_none() && e.kind() == ErrorKind::NotFound => Self::from_toml(""),
            Err(source) => Err(ConfigError::Read {
                path: file.to_owned(),
                source,
            }),
        }
    }

    /// The configuration that a file of this text would give.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        resolve::resolve(merge::merge(text)?)
    }

    /// Every setting with its default and explanation, as a configuration file.
    pub fn documented_defaults() -> String {
        keys::documented_defaults()
    }

    /// Folder of what is kept for good: images, records, volumes.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of what lives until reboot: sockets, pinned namespaces, bundles.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The CRI socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Permission bits of the CRI socket.
    pub fn socket_mode(&self) -> u32 {
        self.socket_mode
    }

    /// What is logged, as `tracing_subscriber::EnvFilter` reads it.
    pub fn log_level(&self) -> &str {
        &self.log_level
    }

    /// Who makes the cgroups.
    pub fn cgroup_driver(&self) -> CgroupDriver {
        self.cgroup_driver
    }

    /// The cgroup for pods whose config names no parent; a slice's path with the systemd driver.
    pub fn default_cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// All runtime handlers, the default one first.
    pub fn handlers(&self) -> &[Handler] {
        &self.handlers
    }

    /// The runtime handler of this name; the empty name is the default one's.
    pub fn handler(&self, name: &str) -> Option<&Handler> {
        match name {
            "" => self.handlers.first(),
            name => self.handlers.iter().find(|handler| handler.name == name),
        }
    }

    /// The folders for what containers of some handlers write, each once.
    pub fn snapshot_places(&self) -> Vec<PathBuf> {
        let named = self
            .handlers
            .iter()
            .filter_map(|handler| handler.snapshots_dir.clone());
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// `[network]`.
    pub fn network(&self) -> &NetworkConfig {
        &self.network
    }

    /// `[images]`.
    pub fn images(&self) -> &ImagesConfig {
        &self.images
    }

    /// `[runtime]`.
    pub fn runtime(&self) -> &RuntimeConfig {
        &self.runtime
    }

    /// Where cAdvisor is answered; None for nowhere.
    pub fn inspection_socket(&self) -> Option<&Path> {
        self.inspection_socket.as_deref()
    }

    /// `[streaming]`.
    pub fn streaming(&self) -> &StreamingConfig {
        &self.streaming
    }

    /// `[checkpoint]`.
    pub fn checkpoint(&self) -> &CheckpointConfig {
        &self.checkpoint
    }

    /// `[nri]`.
    pub fn nri(&self) -> &NriConfig {
        &self.nri
    }

    /// The monitor program: the configured one, else that beside this program, else the first on `PATH`.
    ///
    /// # Errors
    /// There is none.
    pub fn find_monitor(&self) -> Result<PathBuf, ConfigError> {
        const NAME: &str = "pintle-monitor";
        if let Some(monitor) = &self.monitor {
            return monitor
                .is_file()
                .then(|| monitor.clone())
                .ok_or_else(|| ConfigError::Value {
                    key: "monitor".to_owned(),
                    value: monitor.display().to_string(),
                    reason: "there is no such file".to_owned(),
                });
        }
        let beside = std::env::current_exe()
            .ok()
            .and_then(|me| Some(me.parent()?.to_owned()));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = beside
            .into_iter()
            .chain(std::env::split_paths(&path))
            .map(|dir| dir.join(NAME));
        found
            .into_iter()
            .find(|program| program.is_file())
            .ok_or(ConfigError::NoMonitor)
    }
}
