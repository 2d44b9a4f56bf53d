//! `[runtimes.NAME]`: runtime handlers that differ from the default one.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, Spec};
use serde_json::Value;

use super::{ConfigError, RuntimeConfig, raw::RawHandler, resolve::absolute};
use crate::proto::Device;

/// A runtime handler: how the containers of a RuntimeClass are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Handler {
    /// The name in RuntimeClasses.
    pub name: String,
    /// `[runtime]`, as far as the handler has nothing of its own.
    pub settings: RuntimeConfig,
    /// The program that makes its containers; None for this runtime.
    pub program: Option<OciProgram>,
    /// A runtime spec whose parts containers get where they have none of their own.
    pub base_spec: Option<Value>,
    /// Where what its containers write lies; None for the image store.
    pub snapshots_dir: Option<PathBuf>,
    /// The CNI configuration of its pods; None for the node's network.
    pub cni_conf_dir: Option<PathBuf>,
    /// Devices of every container.
    pub devices: Vec<Device>,
    /// Further rules about which devices may be used, after all others.
    pub device_rules: Vec<LinuxDeviceCgroup>,
}

/// Another OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciProgram {
    /// A program with runc's command line.
    pub path: PathBuf,
    /// Options before its commands.
    pub options: Vec<String>,
    /// Where it keeps what it knows of containers.
    pub root: PathBuf,
}

impl Handler {
    /// A handler that does as `[runtime]` says.
    pub(super) fn plain(name: String, settings: RuntimeConfig) -> Self {
        Self {
            name,
            settings,
            program: None,
            base_spec: None,
            snapshots_dir: None,
            cni_conf_dir: None,
            devices: Vec::new(),
            device_rules: Vec::new(),
        }
    }

    pub(super) fn resolve(
        name: String,
        settings: RuntimeConfig,
        raw: &RawHandler,
        state: &Path,
    ) -> Result<Self, ConfigError> {
        let key = |setting: &str| format!("runtimes.{name}.{setting}");
        let program = match raw.path.as_str() {
            "" if !raw.options.is_empty() => {
                return Err(ConfigError::value(
                    &key("options"),
                    raw.options.join(" "),
                    "without path there is no program to give them to",
                ));
            }
            "" => None,
            path => Some(OciProgram {
                path: absolute(&key("path"), path)?,
                options: raw.options.clone(),
                root: match raw.root.as_str() {
                    "" => state.join("runtimes").join(&name),
                    root => absolute(&key("root"), root)?,
                },
            }),
        };
        let folder = |setting: &str, path: &str| match path {
            "" => Ok(None),
            path => absolute(&key(setting), path).map(Some),
        };
        let devices = raw.devices.iter().map(|text| device(&key("devices"), text));
        let rules = raw
            .device_rules
            .iter()
            .map(|text| device_rule(&key("device_rules"), text));
        Ok(Self {
            base_spec: match raw.base_spec.as_str() {
                "" => None,
                path => Some(base_spec(&key("base_spec"), path)?),
            },
            snapshots_dir: folder("snapshots_dir", &raw.snapshots_dir)?,
            cni_conf_dir: folder("cni_conf_dir", &raw.cni_conf_dir)?,
            devices: devices.collect::<Result<_, _>>()?,
            device_rules: rules.collect::<Result<_, _>>()?,
            name,
            settings,
            program,
        })
    }
}

fn base_spec(key: &str, path: &str) -> Result<Value, ConfigError> {
    let refuse = |reason: String| ConfigError::value(key, path, reason);
    let text = fs::read(absolute(key, path)?).map_err(|e| refuse(e.to_string()))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| refuse(e.to_string()))?;
    if !value.is_object() {
        return Err(refuse("is no runtime spec".to_owned()));
    }
    // Each part must be what it is in a spec, or no container could be made.
    serde_json::from_value::<Spec>(whole(&value)).map_err(|e| refuse(e.to_string()))?;
    Ok(value)
}

/// What a part of a spec need not say, for containers' own specs always do.
fn whole(part: &Value) -> Value {
    let mut whole = part.clone();
    let fill = |object: &mut Value, key: &str, value: Value| {
        if let Some(object) = object.as_object_mut() {
            object.entry(key).or_insert(value);
        }
    };
    fill(&mut whole, "ociVersion", "1.2.0".into());
    if let Some(process) = whole.get_mut("process") {
        fill(process, "cwd", "/".into());
        fill(process, "user", serde_json::json!({"uid": 0, "gid": 0}));
    }
    whole
}

/// `host[:container[:permissions]]`.
fn device(key: &str, text: &str) -> Result<Device, ConfigError> {
    let mut parts = text.splitn(3, ':');
    let host = parts.next().unwrap_or_default();
    let container = parts.next().unwrap_or(host);
    let permissions = parts.next().unwrap_or("rwm");
    absolute(key, host)?;
    absolute(key, container)?;
    if permissions.is_empty() || permissions.chars().any(|c| !"rwm".contains(c)) {
        return Err(ConfigError::value(
            key,
            text,
            "permissions are some of r, w and m",
        ));
    }
    Ok(Device {
        host_path: host.to_owned(),
        container_path: container.to_owned(),
        permissions: permissions.to_owned(),
    })
}

/// `c 10:200 rwm`, as cgroup v1's devices.allow has it; `*` for any number.
fn device_rule(key: &str, text: &str) -> Result<LinuxDeviceCgroup, ConfigError> {
    let refuse = || ConfigError::value(key, text, "expected a rule such as \"c 10:200 rwm\"");
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = parts[..] else {
        return Err(refuse());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(refuse()),
    };
    if access.is_empty() || access.chars().any(|c| !"rwm".contains(c)) {
        return Err(refuse());
    }
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_| refuse()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(refuse)?;
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(kind)
        .access(access)
        .build()
        .map_err(|_| refuse())?;
    rule.set_major(number(major)?).set_minor(number(minor)?);
    Ok(rule)
}
