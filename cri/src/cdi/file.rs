//! A description, as the specification of CDI 1.1.0 has it, and what of it is refused.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::name::{check_device, check_kind};

/// The versions that there are; files of others are of a future that nobody here knows.
const VERSIONS: [(u32, u32, u32); 10] = [
    (0, 1, 0),
    (0, 2, 0),
    (0, 3, 0),
    (0, 4, 0),
    (0, 5, 0),
    (0, 6, 0),
    (0, 7, 0),
    (0, 8, 0),
    (1, 0, 0),
    (1, 1, 0),
];

/// How a description is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

impl Format {
    /// By the file's name.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "yaml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// A file: devices of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Description {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    devices: Vec<Device>,
    /// For whoever has any of the devices.
    pub(super) container_edits: Option<Edits>,
}

/// A device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Device {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(super) container_edits: Edits,
}

/// What is changed in a runtime spec.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) hooks: Vec<Hook>,
    pub(super) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<IntelRdt>,
    pub(super) additional_gids: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DeviceNode {
    /// In the container.
    pub(super) path: String,
    /// On the host, if it is another one.
    pub(super) host_path: Option<String>,
    /// `b`, `c`, `u` or `p`; as on the host without it.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) file_mode: Option<u32>,
    /// Some of r, w and m; all of them without it. `none` for none.
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) options: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<i64>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(super) clos_id: Option<String>,
    #[serde(rename = "l3CacheSchema")]
    pub(super) l3_cache_schema: Option<String>,
    #[serde(rename = "memBwSchema")]
    pub(super) mem_bw_schema: Option<String>,
    pub(super) schemata: Option<Vec<String>>,
    #[serde(rename = "enableMonitoring")]
    pub(super) enable_monitoring: Option<bool>,
    /// Before 1.1.0; without effect.
    #[serde(rename = "enableCMT")]
    enable_cmt: Option<bool>,
    /// As `enable_cmt`.
    #[serde(rename = "enableMBM")]
    enable_mbm: Option<bool>,
}

impl Description {
    /// Reads a file's text.
    pub(super) fn parse(text: &str, format: Format) -> Result<Self, String> {
        let parsed: Self = match format {
            Format::Json => serde_json::from_str(text).map_err(|e| e.to_string())?,
            // Only the first line: the others show the place in a drawing.
            Format::Yaml => serde_saphyr::from_str(text)
                .map_err(|e| e.to_string().lines().next().unwrap_or_default().to_owned())?,
        };
        parsed.check()?;
        Ok(parsed)
    }

    /// The device of this name.
    pub(super) fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// `vendor/class=name` of each device.
    pub(super) fn qualified_names(&self) -> impl Iterator<Item = String> {
        self.devices
            .iter()
            .map(|device| format!("{}={}", self.kind, device.name))
    }

    fn check(&self) -> Result<(), String> {
        let version = parse_version(&self.cdi_version)
            .filter(|version| VERSIONS.contains(version))
            .ok_or_else(|| format!("cdiVersion {:?}: no version that is known", self.cdi_version))?;
        check_kind(&self.kind).map_err(|reason| format!("kind {:?}: {reason}", self.kind))?;
        let needed = self.needed_version();
        if version < needed {
            let (major, minor, patch) = needed;
            return Err(format!(
                "cdiVersion {:?}: what is in it needs {major}.{minor}.{patch}",
                self.cdi_version
            ));
        }
        let mut names: Vec<&str> = Vec::new();
        for device in &self.devices {
            check_device(&device.name).map_err(|reason| format!("device {:?}: {reason}", device.name))?;
            if names.contains(&device.name.as_str()) {
                return Err(format!("device {:?}: named twice", device.name));
            }
            if device.container_edits == Edits::default() {
                return Err(format!("device {:?}: its containerEdits are empty", device.name));
            }
            names.push(&device.name);
            device
                .container_edits
                .check()
                .map_err(|reason| format!("device {:?}: {reason}", device.name))?;
        }
        if self.devices.is_empty() {
            return Err("no devices in it".to_owned());
        }
        self.container_edits.as_ref().map_or(Ok(()), Edits::check)
    }

    /// The version in which the youngest of what is used came.
    fn needed_version(&self) -> (u32, u32, u32) {
        let all = || {
            let of_devices = self.devices.iter().map(|device| &device.container_edits);
            of_devices.chain(&self.container_edits)
        };
        let rdt = |of: &dyn Fn(&IntelRdt) -> bool| all().any(|e| e.intel_rdt.as_ref().is_some_and(of));
        let is_annotated =
            !self.annotations.is_empty() || self.devices.iter().any(|device| !device.annotations.is_empty());
        let class = self.kind.split('/').nth(1).unwrap_or_default();
        let digit = |device: &Device| device.name.starts_with(|c: char| c.is_ascii_digit());
        if all().any(|e| !e.net_devices.is_empty())
            || rdt(&|rdt| rdt.schemata.is_some() || rdt.enable_monitoring.is_some())
        {
            (1, 1, 0)
        } else if rdt(&|_| true) || all().any(|e| !e.additional_gids.is_empty()) {
            (0, 7, 0)
        } else if is_annotated || class.contains('.') {
            (0, 6, 0)
        } else if all().any(|e| e.device_nodes.iter().any(|node| node.host_path.is_some()))
            || self.devices.iter().any(digit)
        {
            (0, 5, 0)
        } else if all().any(|e| e.mounts.iter().any(|mount| mount.kind.is_some())) {
            (0, 4, 0)
        } else {
            (0, 1, 0)
        }
    }
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        for entry in &self.env {
            if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                return Err(format!("env {entry:?}: expected NAME=value"));
            }
        }
        for node in &self.device_nodes {
            node.check()
                .map_err(|reason| format!("deviceNodes {:?}: {reason}", node.path))?;
        }
        for mount in &self.mounts {
            let (from, to) = (&mount.host_path, &mount.container_path);
            if from.is_empty() || !to.starts_with('/') || format!("{from}{to}").contains('\0') {
                return Err(format!(
                    "mounts {to:?}: expected a hostPath and an absolute containerPath"
                ));
            }
        }
        for hook in &self.hooks {
            if !HOOKS.contains(&hook.hook_name.as_str()) {
                return Err(format!("hooks {:?}: no such stage", hook.hook_name));
            }
            if !hook.path.starts_with('/') || hook.timeout.is_some_and(|timeout| timeout < 0) {
                return Err(format!(
                    "hooks {:?}: expected an absolute path, and no negative timeout",
                    hook.path
                ));
            }
        }
        let clos = self.intel_rdt.as_ref().and_then(|rdt| rdt.clos_id.as_deref());
        if clos.is_some_and(|id| {
            id.is_empty() || id.len() >= 4096 || matches!(id, "." | "..") || id.contains(['/', '\n'])
        }) {
            return Err("intelRdt.closID: not the name of a folder".to_owned());
        }
        Ok(())
    }
}

/// `hookName`s.
const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

impl DeviceNode {
    fn check(&self) -> Result<(), &'static str> {
        let paths = [Some(&self.path), self.host_path.as_ref()];
        if paths
            .into_iter()
            .flatten()
            .any(|path| !path.starts_with('/') || path.contains('\0'))
        {
            return Err("expected absolute paths");
        }
        if !matches!(self.kind.as_deref(), None | Some("" | "b" | "c" | "u" | "p")) {
            return Err("its type is none of b, c, u and p");
        }
        match self.permissions.as_deref() {
            None | Some("none") => Ok(()),
            Some(some) if some.chars().all(|c| "rwm".contains(c)) => Ok(()),
            Some(_) => Err("its permissions are none of r, w and m"),
        }
    }
}

/// Three numbers.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text
        .strip_prefix('v')
        .unwrap_or(text)
        .split('.')
        .map(|part| part.parse().ok());
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}
