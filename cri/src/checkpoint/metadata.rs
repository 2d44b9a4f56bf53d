//! The JSON files of a checkpoint, with the fields that the peers write and read (checkpointctl's metadata).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use oci_spec::runtime::Spec;
use pintle_runtime::log::Stamp;
use serde::{Deserialize, Serialize};

use crate::container::ContainerRecord;
use crate::error::{Error, IoContext as _, Result};

/// The time of what never was, as Go writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What made a container, in a `config.dump` of ours.
pub(super) const RUNTIME: &str = "pintle";

/// `config.dump`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConfigDump {
    pub(super) id: String,
    pub(super) name: String,
    /// The image as its user named it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) rootfs_image: String,
    /// Its id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) rootfs_image_ref: String,
    /// The same, as Podman has it.
    #[serde(rename = "rootfsImageID", skip_serializing_if = "String::is_empty")]
    pub(super) rootfs_image_id: String,
    /// A reference that it can be pulled by.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) rootfs_image_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) runtime: String,
    pub(super) created_time: String,
    pub(super) checkpointed_time: String,
    pub(super) restored_time: String,
    pub(super) restored: bool,
}

impl ConfigDump {
    pub(super) fn of(record: &ContainerRecord, now: i64) -> Self {
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            rootfs_image: record.image_name.clone(),
            rootfs_image_ref: record.image_id.trim_start_matches("sha256:").to_owned(),
            rootfs_image_id: String::new(),
            rootfs_image_name: record.image_ref.clone(),
            runtime: RUNTIME.to_owned(),
            created_time: stamp(record.created_at),
            checkpointed_time: stamp(now),
            restored_time: NEVER.to_owned(),
            restored: false,
        }
    }

    /// By what the base image may be known here, the surest first.
    pub(super) fn images(&self) -> impl Iterator<Item = &str> {
        [
            &self.rootfs_image_ref,
            &self.rootfs_image_id,
            &self.rootfs_image_name,
            &self.rootfs_image,
        ]
        .into_iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
    }
}

fn stamp(nanoseconds: i64) -> String {
    String::from_utf8_lossy(Stamp::default().format(nanoseconds)).into_owned()
}

/// A line of `bind.mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BindMount {
    pub(super) source: String,
    pub(super) destination: String,
    /// `directory` or `file`.
    pub(super) file_type: String,
    pub(super) permissions: u32,
}

/// `pod.options`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodOptions {
    pub(super) version: u32,
    /// The containers' names; each has an archive `<name>.tar`.
    pub(super) containers: Vec<String>,
    pub(super) mount_label: String,
    pub(super) process_label: String,
}

/// The annotations by which CRI-O knows a container again.
pub(super) fn annotate(spec: &mut Spec, record: &ContainerRecord) -> Result<()> {
    let config = &record.config;
    let metadata = record.metadata();
    let json = |value: &dyn erased::Value| value.json();
    let mut all: HashMap<String, String> = spec.annotations().clone().unwrap_or_default();
    for (key, value) in [
        ("Annotations", json(&config.annotations)?),
        ("Labels", json(&config.labels)?),
        ("Metadata", json(&metadata)?),
        ("ContainerID", record.id.clone()),
        ("ContainerName", record.name.clone()),
        ("ContainerType", "container".to_owned()),
        ("Created", stamp(record.created_at)),
        ("ImageName", record.image_name.clone()),
        ("ImageRef", record.image_ref.clone()),
        ("LogPath", record.log_path.clone()),
        ("Name", record.name.clone()),
        ("SandboxID", record.pod_id.clone()),
        ("TTY", config.tty.to_string()),
        ("Stdin", config.stdin.to_string()),
        ("StdinOnce", config.stdin_once.to_string()),
    ] {
        all.insert(format!("io.kubernetes.cri-o.{key}"), value);
    }
    spec.set_annotations(Some(all));
    Ok(())
}

/// Values of several types in one table.
mod erased {
    use crate::error::Result;

    pub(super) trait Value {
        fn json(&self) -> Result<String>;
    }

    impl<T: serde::Serialize> Value for T {
        fn json(&self) -> Result<String> {
            serde_json::to_string(self).map_err(|source| super::encoding("annotation".as_ref(), source))
        }
    }
}

/// Writes a value as a JSON file that only root can read.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let text = serde_json::to_vec_pretty(value).map_err(|source| encoding(path, source))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .io("create", path)?;
    std::io::Write::write_all(&mut file, &text).io("write", path)
}

/// Reads a JSON file of a checkpoint that was unpacked.
///
/// # Errors
/// It is missing, or no such file.
pub(super) fn read<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<T> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| super::bad(format!("{name}: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(super::bad(format!("{name} is missing")))
        }
        Err(error) => Err(error).io("read", &path),
    }
}

fn encoding(path: &Path, source: serde_json::Error) -> Error {
    Error::Io {
        verb: "encode",
        path: path.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_s_names_of_the_image_are_known() {
        let text =
            r#"{"id":"abc","name":"n","rootfsImageID":"7b","rootfsImageName":"localhost/bb:1","lockID":0}"#;
        let read: ConfigDump = serde_json::from_str(text).unwrap();
        assert_eq!(read.images().collect::<Vec<_>>(), ["7b", "localhost/bb:1"]);
    }

    #[test]
    fn a_config_dump_is_as_the_peers_write_it() {
        let text = r#"{"id":"abc","name":"k8s_c_p","rootfsImage":"docker.io/library/busybox:latest",
            "rootfsImageRef":"11","rootfsImageName":"docker.io/library/busybox@sha256:22","runtime":"runc",
            "createdTime":"2025-01-01T00:00:00.5Z","checkpointedTime":"2025-01-01T00:00:01Z",
            "restoredTime":"0001-01-01T00:00:00Z","restored":false}"#;
        let read: ConfigDump = serde_json::from_str(text).unwrap();
        assert_eq!(
            read.images().collect::<Vec<_>>(),
            [
                "11",
                "docker.io/library/busybox@sha256:22",
                "docker.io/library/busybox:latest"
            ]
        );
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
