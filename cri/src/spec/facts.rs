//! What the translation is given: plain data about the sandbox, the image, the node and the host's files.
//!
//! `gather.rs` collects what has to be looked up; nothing here or below looks anything up itself.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use oci_spec::{image::ImageConfiguration, runtime::Capability};
use serde::Deserialize;

use super::users::UserDatabase;
use crate::{
    config::RuntimeConfig,
    proto::{CgroupDriver, ContainerConfig, PodSandboxConfig},
};

/// Everything that a container's runtime spec is made from.
#[derive(Debug, Clone, Copy)]
pub struct SpecInput<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Mount point of its root file system, within the container's own mount namespace.
    pub rootfs: &'a Path,
    /// CreateContainer's config.
    pub config: &'a ContainerConfig,
    /// The sandbox that it belongs to.
    pub sandbox: SandboxFacts<'a>,
    /// Its image.
    pub image: ImageFacts<'a>,
    /// The image's users and groups.
    pub users: &'a UserDatabase,
    /// This machine.
    pub node: &'a NodeFacts,
    /// What the config's paths mean on the host.
    pub host: &'a HostFacts,
    /// The daemon's `[runtime]` settings.
    pub settings: &'a RuntimeConfig,
}

/// A sandbox, as its containers see it.
#[derive(Debug, Clone, Copy)]
pub struct SandboxFacts<'a> {
    /// Its id.
    pub id: &'a str,
    /// RunPodSandbox's config; what CreateContainer repeats of it grants nothing.
    pub config: &'a PodSandboxConfig,
    /// The name that its processes see; [`super::sandbox::hostname`].
    pub hostname: &'a str,
    /// The cgroup that its containers lie in; never empty.
    pub cgroup_parent: &'a str,
    /// Folder of the pinned namespaces: `net`, `ipc`, `uts`, `user`, `pid`.
    pub ns_dir: &'a Path,
    /// Its files.
    pub files: &'a SandboxFiles,
    /// The SELinux level, as `s0:c1,c2`, that its containers share, where SELinux is on.
    pub selinux_level: Option<&'a str>,
}

/// Files of a sandbox that its containers get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxFiles {
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hosts`, where there is one besides what the kubelet mounts.
    #[serde(default)]
    pub hosts: Option<PathBuf>,
    /// `/dev/shm`, unless the sandbox uses the host's.
    pub shm: PathBuf,
}

/// An image, as its containers see it.
#[derive(Debug, Clone, Copy)]
pub struct ImageFacts<'a> {
    /// Its config.
    pub config: &'a ImageConfiguration,
    /// What the pod's spec calls it.
    pub name: &'a str,
}

/// Version of the cgroup hierarchy that holds memory and cpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// One hierarchy a controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// What this machine is able to do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFacts {
    /// The host's name.
    pub hostname: String,
    /// Version of the cgroups.
    pub cgroup_version: CgroupVersion,
    /// Who makes the cgroups.
    pub cgroup_driver: CgroupDriver,
    /// Whether memory and swap together can be limited.
    pub swap_limit: bool,
    /// Sizes of huge pages that can be limited, as `2MB`; none without the controller.
    pub hugepage_sizes: Vec<String>,
    /// Options of the host's cgroup2 mount that a mount of it elsewhere must repeat, or the host's would lose them.
    pub cgroup2_options: Vec<String>,
    /// Capabilities that the daemon can give.
    pub capabilities: Vec<Capability>,
    /// Below this no `oom_score_adj` can be set; None with CAP_SYS_RESOURCE.
    pub oom_score_adj_floor: Option<i64>,
    /// Hard limits that can't be raised, by the names of [`super::rlimits`]; none with CAP_SYS_RESOURCE.
    pub rlimit_ceilings: BTreeMap<String, u64>,
    /// Whether mounts can be made read-only with all below them (mount_setattr(2), Linux 5.12).
    pub recursive_read_only: bool,
    /// Whether there are user namespaces and mounts can be idmapped (Linux 5.19 for overlay).
    pub user_namespaces: bool,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
}

/// What a container's config names on the host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostFacts {
    /// By `Mount.host_path`.
    pub mounts: BTreeMap<String, MountSource>,
    /// By `Mount.image.image` and `image_sub_path`, joined by a NUL if there is the latter; see [`image_mount_key`].
    pub image_mounts: BTreeMap<String, ImageMount>,
    /// Folders for the paths of [`super::image_volumes`].
    pub volumes: BTreeMap<String, PathBuf>,
    /// By `Device.host_path`: the device, or those in the folder of that name.
    pub devices: BTreeMap<String, Vec<HostDevice>>,
    /// Every device under /dev, for privileged containers.
    pub all_devices: Vec<HostDevice>,
    /// AppArmor profiles that are loaded.
    pub apparmor_profiles: Vec<String>,
    /// The first process of the container whose PID namespace is joined.
    pub target_pid: Option<i32>,
}

/// Source of a bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountSource {
    /// With symlinks resolved.
    pub path: PathBuf,
    /// Propagation of the mount that it lies on.
    pub propagation: SourcePropagation,
}

/// Propagation of a mount of the host (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourcePropagation {
    /// Neither of the others.
    Private,
    /// It receives.
    Slave,
    /// It sends and receives.
    Shared,
}

/// Source of an image volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageMount {
    /// Layers, the topmost first; or, with a sub path, the folder in each layer that has it.
    Layers(Vec<PathBuf>),
    /// A file within the image.
    Path(PathBuf),
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDevice {
    /// Relative to the path asked for; empty for that itself, absolute in [`HostFacts::all_devices`].
    #[serde(default)]
    pub below: PathBuf,
    /// Block or character device.
    pub kind: DeviceKind,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    #[serde(default)]
    pub uid: u32,
    /// Its group.
    #[serde(default)]
    pub gid: u32,
}

/// Kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// With a buffer cache.
    Block,
    /// Without.
    Char,
}

/// Key of [`HostFacts::image_mounts`].
pub fn image_mount_key(image: &str, sub_path: &str) -> String {
    if sub_path.is_empty() {
        image.to_owned()
    } else {
        format!("{image}\0{sub_path}")
    }
}
