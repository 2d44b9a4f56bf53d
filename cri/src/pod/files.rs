//! The files that a pod's containers see under /etc, and its shared memory.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use crate::error::{IoContext as _, Result};
use crate::paths::PodDir;
use crate::spec::sandbox;

use super::PodRecord;

/// Size of a pod's /dev/shm, in bytes.
const SHM_SIZE: u64 = 64 << 20;

/// Makes the pod's folder, its files and, unless it uses the node's IPC, its /dev/shm. Blocking.
///
/// # Errors
/// [`crate::error::Error::Io`], or the runtime's.
pub(super) fn make(dir: &PodDir, record: &PodRecord, node_name: &str) -> Result<()> {
    fs::create_dir_all(dir.path()).io("create folder", dir.path())?;
    // the pod's root, whom a user namespace makes another than the host's
    let owner = record.user_ids().root();
    let write = |path: &Path, text: &str| write(path, text, owner);
    write(
        &dir.hostname(),
        &format!("{}\n", sandbox::hostname(&record.config, &record.id, node_name)),
    )?;
    let resolv_conf = match &record.config.dns_config {
        Some(dns) => sandbox::resolv_conf(dns),
        None => host_file("/etc/resolv.conf")?,
    };
    write(&dir.resolv_conf(), &resolv_conf)?;
    // kubelet mounts a file of its own for pods with a network of their own; others get the node's names.
    write(&dir.hosts(), &host_file("/etc/hosts")?)?;
    if record.namespace_options().ipc != crate::proto::NamespaceMode::Node as i32 {
        pintle_runtime::sandbox::mount_shm(&dir.shm(), SHM_SIZE, owner)?;
    }
    Ok(())
}

/// The node's own file; a node without one gets an empty one.
fn host_file(path: &str) -> Result<String> {
    match fs::read(path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).io("read", path),
    }
}

fn write(path: &Path, text: &str, (uid, gid): (u32, u32)) -> Result<()> {
    fs::write(path, text).io("write", path)?;
    chown(path, Some(uid), Some(gid)).io("set owner of", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).io("set mode of", path)
}
