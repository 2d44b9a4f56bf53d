//! Raw values to validated ones; each refusal names the key and the value.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    CgroupDriver, CheckpointConfig, Config, ConfigError, Handler, ImagesConfig, NetworkConfig, RuntimeConfig,
    StreamingConfig, TlsFiles,
    merge::Merged,
    raw::{RawHandler, RawImages, RawNetwork, RawRuntime, RawStreaming},
};
use crate::spec::{caps, rlimits};

/// Longest path of a unix socket (unix(7)), in bytes.
pub(super) const SOCKET_PATH_MAX: usize = 107;
/// Longest interface name (IFNAMSIZ without its NUL), in bytes.
const INTERFACE_NAME_MAX: usize = 15;

pub(super) fn resolve(merged: Merged) -> Result<Config, ConfigError> {
    let Merged {
        config: raw,
        handlers: raw_handlers,
    } = merged;
    let state = absolute("state", &raw.state)?;
    let socket = match raw.socket.as_str() {
        "" => state.join("pintle.sock"),
        path => absolute("socket", path)?,
    };
    short_enough("socket", &socket)?;
    let inspection_socket = optional(&raw.inspection.socket)
        .map(|path| inspection_socket(path, &socket))
        .transpose()?;
    let cgroup_driver = one_of(
        "cgroup_driver",
        &raw.cgroup_driver,
        &[
            ("auto", CgroupDriver::Auto),
            ("cgroupfs", CgroupDriver::Cgroupfs),
            ("systemd", CgroupDriver::Systemd),
        ],
    )?;
    let names = raw.runtime.handlers.clone();
    let prefix = inspection_socket
        .as_ref()
        .map_or("", |_| crate::inspect::CGROUP_PREFIX);
    let runtime = runtime(raw.runtime, prefix)?;
    Ok(Config {
        root: absolute("root", &raw.root)?,
        handlers: handlers(&runtime, names, raw_handlers, &state)?,
        state,
        socket,
        socket_mode: mode("socket_mode", raw.socket_mode)?,
        monitor: optional(&raw.monitor)
            .map(|path| absolute("monitor", path))
            .transpose()?,
        log_level: filled("log_level", raw.log_level)?,
        cgroup_parent: cgroup_parent(&raw.cgroup_parent, cgroup_driver)?,
        cgroup_driver,
        network: network(raw.network)?,
        images: images(raw.images)?,
        runtime,
        inspection_socket,
        streaming: streaming(&raw.streaming)?,
        checkpoint: CheckpointConfig {
            enable: raw.checkpoint.enable,
            criu: filled("checkpoint.criu", raw.checkpoint.criu)?,
        },
        nri: super::nri::resolve(raw.nri)?,
    })
}

/// The two can't share a socket: kubelet speaks gRPC on one, cAdvisor plain HTTP on the other.
fn inspection_socket(path: &str, cri: &Path) -> Result<PathBuf, ConfigError> {
    const KEY: &str = "inspection.socket";
    let socket = absolute(KEY, path)?;
    short_enough(KEY, &socket)?;
    if socket == cri {
        return Err(ConfigError::value(
            KEY,
            path,
            "is the CRI socket; it must be another one",
        ));
    }
    Ok(socket)
}

fn short_enough(key: &str, socket: &Path) -> Result<(), ConfigError> {
    if socket.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok(());
    }
    let reason = format!("longer than {SOCKET_PATH_MAX} bytes");
    Err(ConfigError::value(key, socket.display(), reason))
}

fn network(raw: RawNetwork) -> Result<NetworkConfig, ConfigError> {
    let bridge = raw.bridge;
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if bridge.is_empty()
        || bridge.len() > INTERFACE_NAME_MAX
        || bridge.starts_with('.')
        || bridge.contains(bad)
    {
        return Err(ConfigError::value(
            "network.bridge",
            bridge,
            "not a name for an interface",
        ));
    }
    let mtu = match raw.mtu {
        0 => None,
        mtu => Some(in_range("network.mtu", mtu, 576, 65535)?),
    };
    let bin_dirs = raw
        .cni_bin_dirs
        .iter()
        .map(|dir| absolute("network.cni_bin_dirs", dir));
    Ok(NetworkConfig {
        bridge,
        ranges: ranges(&raw.ranges)?,
        mtu: mtu.map(|mtu| u32::try_from(mtu).unwrap_or(u32::MAX)),
        masquerade: raw.masquerade,
        hairpin: raw.hairpin,
        cni_conf_dir: absolute("network.cni_conf_dir", &raw.cni_conf_dir)?,
        cni_bin_dirs: bin_dirs.collect::<Result<_, _>>()?,
    })
}

fn ranges(raw: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    const KEY: &str = "network.ranges";
    let mut ranges: Vec<IpNet> = Vec::new();
    for text in raw {
        let range: IpNet = parse(KEY, text, "an address range such as 10.85.0.0/16")?;
        if range.trunc() != range {
            return Err(ConfigError::value(
                KEY,
                text,
                format!("has host bits; did you mean {}?", range.trunc()),
            ));
        }
        if range.max_prefix_len() - range.prefix_len() < 3 {
            return Err(ConfigError::value(
                KEY,
                text,
                "too small: it must hold at least 8 addresses",
            ));
        }
        if ranges
            .iter()
            .any(|other| other.addr().is_ipv4() == range.addr().is_ipv4())
        {
            return Err(ConfigError::value(KEY, text, "a second range of the same family"));
        }
        ranges.push(range);
    }
    if ranges.is_empty() {
        return Err(ConfigError::value(KEY, "[]", "at least one range is needed"));
    }
    Ok(ranges)
}

fn images(raw: RawImages) -> Result<ImagesConfig, ConfigError> {
    for registry in &raw.insecure_registries {
        if registry.is_empty() || registry.contains(['/', '@']) || registry.contains(char::is_whitespace) {
            return Err(ConfigError::value(
                "images.insecure_registries",
                registry,
                "expected host or host:port",
            ));
        }
    }
    let layers = in_range("images.max_concurrent_layers", raw.max_concurrent_layers, 1, 64)?;
    let path = |key, value: &str| optional(value).map(|path| absolute(key, path)).transpose();
    Ok(ImagesConfig {
        certs_dir: path("images.certs_dir", &raw.certs_dir)?,
        auth_file: path("images.auth_file", &raw.auth_file)?,
        signature_policy: path("images.signature_policy", &raw.signature_policy)?,
        insecure_registries: raw.insecure_registries,
        pinned: patterns("images.pinned", raw.pinned)?,
        max_concurrent_layers: usize::try_from(layers).unwrap_or(1),
    })
}

/// The default handler first, then those that only have a name, then those with a section.
fn handlers(
    runtime: &RuntimeConfig,
    names: Vec<String>,
    sections: Vec<(String, RawHandler, RawRuntime)>,
    state: &Path,
) -> Result<Vec<Handler>, ConfigError> {
    let mut all = vec![Handler::plain(runtime.default_handler.clone(), runtime.clone())];
    for name in names {
        let name = handler("runtime.handlers", name)?;
        if all.iter().any(|other| other.name == name) {
            return Err(ConfigError::value("runtime.handlers", name, "named twice"));
        }
        all.push(Handler::plain(name, runtime.clone()));
    }
    for (name, own, settings) in sections {
        let name = handler("runtimes", name)?;
        let settings = self::runtime(settings, &runtime.cgroup_prefix)?;
        let made = Handler::resolve(name, settings, &own, state)?;
        match all.iter_mut().find(|other| other.name == made.name) {
            Some(named) => *named = made,
            None => all.push(made),
        }
    }
    Ok(all)
}

fn runtime(raw: RawRuntime, cgroup_prefix: &str) -> Result<RuntimeConfig, ConfigError> {
    let default_handler = handler("runtime.default_handler", raw.default_handler)?;
    let ulimits = raw.default_ulimits.iter().map(|text| {
        rlimits::parse(text).map_err(|reason| ConfigError::value("runtime.default_ulimits", text, reason))
    });
    let capabilities = raw.default_capabilities.iter().map(|name| {
        caps::parse(name)
            .ok_or_else(|| ConfigError::value("runtime.default_capabilities", name, "no such capability"))
    });
    let log_max_line = match raw.log_max_line {
        -1 => usize::MAX,
        line => usize::try_from(in_range("runtime.log_max_line", line, 256, 1 << 30)?).unwrap_or(usize::MAX),
    };
    let seccomp = [("unconfined", false), ("runtime-default", true)];
    Ok(RuntimeConfig {
        default_handler,
        default_ulimits: ulimits.collect::<Result<_, _>>()?,
        default_capabilities: capabilities.collect::<Result<_, _>>()?,
        log_max_line,
        log_mode: mode("runtime.log_mode", raw.log_mode)?,
        sync_rootfs: raw.sync_rootfs,
        unprivileged_ports: raw.unprivileged_ports,
        unprivileged_ping: raw.unprivileged_ping,
        seccomp_default: one_of("runtime.seccomp_default", &raw.seccomp_default, &seccomp)?,
        privileged_without_host_devices: raw.privileged_without_host_devices,
        device_ownership_from_security_context: raw.device_ownership_from_security_context,
        pids_limit: Some(in_range("runtime.pids_limit", raw.pids_limit, 0, 1 << 22)?)
            .filter(|limit| *limit > 0),
        pod_annotations: patterns("runtime.pod_annotations", raw.pod_annotations)?,
        container_annotations: patterns("runtime.container_annotations", raw.container_annotations)?,
        cdi_dirs: folders("runtime.cdi_dirs", &raw.cdi_dirs)?,
        hooks_dirs: folders("runtime.hooks_dirs", &raw.hooks_dirs)?,
        blockio_config_file: optional(&raw.blockio_config_file)
            .map(|path| absolute("runtime.blockio_config_file", path))
            .transpose()?,
        rdt_config_file: optional(&raw.rdt_config_file)
            .map(|path| absolute("runtime.rdt_config_file", path))
            .transpose()?,
        resctrl_root: absolute("runtime.resctrl_root", &raw.resctrl_root)?,
        cgroup_prefix: cgroup_prefix.to_owned(),
    })
}

fn streaming(raw: &RawStreaming) -> Result<StreamingConfig, ConfigError> {
    let address: IpAddr = parse("streaming.address", &raw.address, "an IP address")?;
    let port = in_range("streaming.port", raw.port, 0, 65535)?;
    let tls = match (optional(&raw.tls_cert), optional(&raw.tls_key)) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: absolute("streaming.tls_cert", certificate)?,
            key: absolute("streaming.tls_key", key)?,
        }),
        (Some(_), None) => return Err(ConfigError::value("streaming.tls_key", "", "tls_cert needs it")),
        (None, Some(_)) => return Err(ConfigError::value("streaming.tls_cert", "", "tls_key needs it")),
    };
    let seconds = |key, value| {
        in_range(key, value, 1, 7 * 24 * 3600).map(|seconds| Duration::from_secs(seconds.unsigned_abs()))
    };
    Ok(StreamingConfig {
        address: SocketAddr::new(address, u16::try_from(port).unwrap_or(0)),
        tls,
        idle_timeout: seconds("streaming.idle_timeout", raw.idle_timeout)?,
        creation_timeout: seconds("streaming.creation_timeout", raw.creation_timeout)?,
    })
}

/// Handler names are those of RuntimeClasses: DNS labels.
fn handler(key: &str, name: String) -> Result<String, ConfigError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fine = (1..=63).contains(&name.len()) && name.chars().all(allowed);
    if fine && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(name);
    }
    Err(ConfigError::value(
        key,
        name,
        "not a DNS label: up to 63 of a-z, 0-9 and - inside",
    ))
}

pub(super) fn cgroup_parent(path: &str, driver: CgroupDriver) -> Result<String, ConfigError> {
    const KEY: &str = "cgroup_parent";
    absolute(KEY, path)?;
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() || trimmed.split('/').any(|part| part == ".." || part == ".") {
        return Err(ConfigError::value(
            KEY,
            path,
            "expected the path of a cgroup of our own, as /pintle",
        ));
    }
    // The default's slice has the default's name.
    if driver == CgroupDriver::Systemd && trimmed == "/pintle" {
        return Ok("/pintle.slice".to_owned());
    }
    if driver == CgroupDriver::Systemd && !trimmed.ends_with(".slice") {
        return Err(ConfigError::value(
            KEY,
            path,
            "with the systemd driver its last part must end in .slice",
        ));
    }
    if driver == CgroupDriver::Cgroupfs && trimmed.ends_with(".slice") {
        return Err(ConfigError::value(
            KEY,
            path,
            "with the cgroupfs driver it can't be a slice of systemd's",
        ));
    }
    Ok(trimmed.to_owned())
}

/// Only `*` at the end has a meaning, so that nobody relies on more.
fn patterns(key: &str, patterns: Vec<String>) -> Result<Vec<String>, ConfigError> {
    match patterns
        .iter()
        .find(|p| p.is_empty() || p.strip_suffix('*').unwrap_or(p).contains('*'))
    {
        Some(bad) => Err(ConfigError::value(key, bad, "a * may only stand at the end")),
        None => Ok(patterns),
    }
}

pub(super) fn absolute(key: &str, path: &str) -> Result<PathBuf, ConfigError> {
    if Path::new(path).is_absolute() && !path.contains('\0') {
        return Ok(PathBuf::from(path));
    }
    Err(ConfigError::value(key, path, "expected an absolute path"))
}

fn folders(key: &str, paths: &[String]) -> Result<Vec<PathBuf>, ConfigError> {
    paths.iter().map(|path| absolute(key, path)).collect()
}

fn optional(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn filled(key: &str, text: String) -> Result<String, ConfigError> {
    if text.is_empty() {
        Err(ConfigError::value(key, text, "is empty"))
    } else {
        Ok(text)
    }
}

fn mode(key: &str, mode: i64) -> Result<u32, ConfigError> {
    match u32::try_from(mode) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err(ConfigError::value(
            key,
            format!("{mode:#o}"),
            "expected permission bits, 0o000 to 0o777",
        )),
    }
}

fn in_range(key: &str, value: i64, least: i64, most: i64) -> Result<i64, ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::value(
        key,
        value,
        format!("expected {least} to {most}"),
    ))
}

fn parse<T: FromStr>(key: &str, text: &str, expected: &str) -> Result<T, ConfigError> {
    text.parse()
        .map_err(|_| ConfigError::value(key, text, format!("expected {expected}")))
}

fn one_of<T: Copy>(key: &str, text: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
    choices
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            ConfigError::value(key, text, format!("expected one of {}", names.join(", ")))
        })
}
