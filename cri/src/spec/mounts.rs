//! A container's mounts: the usual ones, the sandbox's files, the image's volumes and the config's own, in order.

use std::path::{Path, PathBuf};

use oci_spec::{image::ImageConfiguration, runtime::Mount};

use super::{CgroupVersion, SpecError, SpecInput, binds, namespaces, sandbox};
use crate::proto::{ContainerConfig, NamespaceMode};

/// Below these a container's image declares no volumes: they are the kernel's.
const KERNEL_PATHS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Mounts, and what follows from them for the rest of the spec.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Parents before children.
    pub(super) mounts: Vec<Mount>,
    /// Propagation of the root, where a mount needs one.
    pub(super) root_propagation: Option<&'static str>,
    /// Sources that get the container's SELinux label.
    pub(super) relabel: Vec<PathBuf>,
}

/// All mounts of a container.
pub(super) fn mounts(input: &SpecInput<'_>, privileged: bool, readonly: bool) -> Result<Mounts, SpecError> {
    let mut result = binds::config_mounts(input)?;
    let mut ours = sandbox_files(input, readonly);
    ours.extend(volumes(input)?);
    if input.node.selinux {
        let sources = ours.iter().filter_map(|mount| mount.source().clone());
        result.relabel.extend(sources);
        if namespaces::of_sandbox(input.sandbox.config).ipc() != NamespaceMode::Node {
            result.relabel.push(input.sandbox.files.shm.clone());
        }
    }
    let mut all = defaults(input, privileged);
    all.extend(ours);
    // What the config mounts takes the place of ours; over a /dev of its own nothing else is laid.
    let own: Vec<PathBuf> = result
        .mounts
        .iter()
        .map(|mount| mount.destination().clone())
        .collect();
    let own_dev = own.iter().any(|path| path == Path::new("/dev"));
    all.retain(|mount| {
        let path = mount.destination();
        !(own.contains(path) || own_dev && path.starts_with("/dev"))
    });
    all.append(&mut result.mounts);
    all.sort_by_key(|mount| mount.destination().components().count());
    result.mounts = all;
    Ok(result)
}

/// Where the image wants volumes of its own, as cleaned paths; the config's mounts go before them.
pub fn image_volumes(config: &ContainerConfig, image: &ImageConfiguration) -> Vec<String> {
    // A mount without a usable path is refused by the translation.
    let mounted: Vec<PathBuf> = config
        .mounts
        .iter()
        .filter_map(|m| binds::destination(&m.container_path).ok())
        .collect();
    let declared = image
        .config()
        .as_ref()
        .and_then(|i| i.volumes().as_deref())
        .unwrap_or_default();
    let mut volumes: Vec<String> = Vec::new();
    for text in declared {
        // An image may say anything; what can't be a volume is none.
        let Ok(path) = binds::destination(text) else {
            continue;
        };
        let of_kernel = KERNEL_PATHS.iter().any(|kernel| path.starts_with(kernel));
        if !of_kernel && !mounted.contains(&path) {
            volumes.push(path.display().to_string());
        }
    }
    volumes.sort();
    volumes.dedup();
    volumes
}

fn volumes(input: &SpecInput<'_>) -> Result<Vec<Mount>, SpecError> {
    let paths = image_volumes(input.config, input.image.config);
    let bind = |path: &String| {
        let source = input.host.volumes.get(path).ok_or_else(|| {
            SpecError::invalid("the image's volume", path, "no folder has been made for it")
        })?;
        Ok(mount(path, "bind", source, &["rbind", "rprivate", "rw"]))
    };
    paths.iter().map(bind).collect()
}

fn defaults(input: &SpecInput<'_>, privileged: bool) -> Vec<Mount> {
    let options = namespaces::of_sandbox(input.sandbox.config);
    let access = if privileged { "rw" } else { "ro" };
    let shm = match options.ipc() {
        NamespaceMode::Node => Path::new("/dev/shm"),
        _ => &input.sandbox.files.shm,
    };
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    // sysfs shows the network namespace's devices and can only be mounted by the user namespace that owns it.
    let foreign_network =
        options.network() == NamespaceMode::Node && sandbox::user_namespace(&options).is_some();
    let sys = if foreign_network {
        mount(
            "/sys",
            "bind",
            "/sys",
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"],
        )
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access])
    };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &dev),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev/shm",
            "bind",
            shm,
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"],
        ),
        sys,
        cgroup(input, privileged, access),
    ]
}

fn cgroup(input: &SpecInput<'_>, privileged: bool, access: &str) -> Mount {
    let mut options = vec!["nosuid", "noexec", "nodev", "relatime", access];
    // Without a cgroup namespace this is the host's own super block: options that are left out are taken from it.
    if privileged && input.node.cgroup_version == CgroupVersion::V2 {
        options.extend(input.node.cgroup2_options.iter().map(String::as_str));
    }
    mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)
}

/// /etc/hostname, /etc/hosts, /etc/resolv.conf.
fn sandbox_files(input: &SpecInput<'_>, readonly: bool) -> Vec<Mount> {
    let files = input.sandbox.files;
    let options = [
        "rbind",
        "rprivate",
        "nosuid",
        "noexec",
        "nodev",
        if readonly { "ro" } else { "rw" },
    ];
    let mut mounts = vec![
        mount("/etc/hostname", "bind", &files.hostname, &options),
        mount("/etc/resolv.conf", "bind", &files.resolv_conf, &options),
    ];
    mounts.extend(
        files
            .hosts
            .as_ref()
            .map(|hosts| mount("/etc/hosts", "bind", hosts, &options)),
    );
    mounts
}

/// A mount of the runtime spec.
pub(super) fn mount(
    destination: impl AsRef<Path>,
    kind: &str,
    source: impl AsRef<Path>,
    options: &[impl AsRef<str>],
) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.as_ref().to_owned())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.as_ref().to_owned()))
        .set_options(Some(
            options.iter().map(|option| option.as_ref().to_owned()).collect(),
        ));
    mount
}
