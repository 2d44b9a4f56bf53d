//! Cgroups as a kubelet names, makes and removes them, by the driver under test (`PINTLE_TEST_CGROUPS`: cgroupfs, which
//! is the default, or systemd where that is the host's first process).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host;

/// Who makes the cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Whoever needs them.
    Cgroupfs,
    /// systemd, as slices and scopes.
    Systemd,
}

impl Driver {
    /// What `PINTLE_TEST_CGROUPS` asks for.
    pub fn from_env() -> Driver {
        match std::env::var("PINTLE_TEST_CGROUPS").as_deref() {
            Ok("systemd") => Driver::Systemd,
            _ => Driver::Cgroupfs,
        }
    }

    /// Its name in the daemon's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Cgroupfs => "cgroupfs",
            Driver::Systemd => "systemd",
        }
    }
}

/// A cgroup below `parent`; slices carry their parents' names.
pub fn child(parent: &str, name: &str) -> String {
    match slice(parent) {
        Some(stem) => format!("{parent}/{stem}-{}.slice", name.replace('-', "_")),
        None => format!("{parent}/{name}"),
    }
}

/// The cgroup of a container, or of a pod's first process, of this id; the parent's own without one.
pub fn of_container(parent: &str, id: &str) -> String {
    match slice(parent) {
        _ if id.is_empty() => parent.to_owned(),
        Some(_) => format!("{parent}/pintle-{id}.scope"),
        None => format!("{parent}/{id}"),
    }
}

/// The name of a slice, without its end.
fn slice(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.strip_suffix(".slice")
}

/// Makes `cgroup` in every hierarchy; slices are made by systemd when something is put in.
pub fn create(cgroup: &str) -> Result<()> {
    if slice(cgroup).is_some() {
        return Ok(());
    }
    for root in host::cgroup_roots()? {
        let path = root.join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    Ok(())
}

/// Removes one that nothing runs in and nothing is below.
pub fn remove_empty(folder: &Path) -> Result<()> {
    match folder.file_name().and_then(|name| name.to_str()) {
        Some(name) if name.ends_with(".slice") => host::run("systemctl", &["stop", name]).map(drop),
        _ => fs::remove_dir(folder).with_context(|| format!("remove {}", folder.display())),
    }
}

/// Removes `cgroup` and what is below it, as far as nothing runs in them.
pub fn remove(cgroup: &str) {
    if let Some(stem) = slice(cgroup) {
        // also those below, which can't be without it
        let _ = host::run("systemctl", &["stop", &format!("{stem}.slice")]);
    }
    for path in host::cgroups_below(cgroup).unwrap_or_default() {
        let _ = fs::remove_dir(path);
    }
    for root in host::cgroup_roots().unwrap_or_default() {
        let _ = fs::remove_dir(root.join(cgroup.trim_start_matches('/')));
    }
}
