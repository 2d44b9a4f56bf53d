//! Which namespaces a container gets: new ones, and ones that are joined by path.

mod idmap;
mod sysctl;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset, Spec};

use crate::error::{Context, Error, Result};
use crate::sys::process::setns;

pub(crate) use idmap::{IdMaps, carrier, root_outside, write_map};
pub(crate) use sysctl::{check as check_sysctl, write as write_sysctl};

/// The namespaces of one container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `CLONE_NEW*` of those to be made.
    pub(crate) new: i32,
    /// Those to be joined.
    join: Vec<(i32, PathBuf)>,
}

impl Plan {
    /// Reads `linux.namespaces`.
    pub(crate) fn read(spec: &Spec) -> Result<Self> {
        let mut plan = Self::default();
        let list = spec
            .linux()
            .as_ref()
            .and_then(|l| l.namespaces().as_deref())
            .unwrap_or_default();
        for (i, namespace) in list.iter().enumerate() {
            let flag = namespace.typ() as i32;
            if plan.all() & flag != 0 {
                return Err(Error::invalid(
                    format!("linux.namespaces[{i}].type"),
                    "appears twice",
                ));
            }
            match namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
                None => plan.new |= flag,
                Some(path) if !path.is_absolute() => {
                    let reason = format!("{} is not an absolute path", path.display());
                    return Err(Error::invalid(format!("linux.namespaces[{i}].path"), reason));
                }
                Some(path) => plan.join.push((flag, path.clone())),
            }
        }
        plan.check(spec)?;
        Ok(plan)
    }

    fn check(&self, spec: &Spec) -> Result<()> {
        if !self.is_new(LinuxNamespaceType::Mount) {
            return Err(Error::invalid(
                "linux.namespaces",
                "a new mount namespace is required",
            ));
        }
        if spec.hostname().as_deref().is_some_and(|h| !h.is_empty()) && !self.has(LinuxNamespaceType::Uts) {
            return Err(Error::invalid("hostname", "needs a uts namespace"));
        }
        let offsets = spec.linux().as_ref().and_then(|l| l.time_offsets().as_ref());
        if offsets.is_some_and(|o| !o.is_empty()) && !self.is_new(LinuxNamespaceType::Time) {
            return Err(Error::invalid("linux.timeOffsets", "needs a new time namespace"));
        }
        Ok(())
    }

    /// `CLONE_NEW*` of all that differ from the runtime's.
    pub(crate) fn all(&self) -> i32 {
        self.join.iter().fold(self.new, |all, (flag, _)| all | flag)
    }

    /// Whether the container has a namespace of its own of this kind, new or joined.
    pub(crate) fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.all() & kind as i32 != 0
    }

    /// Whether it is made for this container.
    pub(crate) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.new & kind as i32 != 0
    }

    /// Whether it exists and is joined.
    pub(crate) fn joins(&self, kind: LinuxNamespaceType) -> bool {
        self.join.iter().any(|(flag, _)| *flag == kind as i32)
    }

    /// Whether it is in any namespace that exists already.
    pub(crate) fn joins_any(&self) -> bool {
        !self.join.is_empty()
    }

    /// Where the namespace of this kind lies that is joined.
    pub(crate) fn path(&self, kind: LinuxNamespaceType) -> Option<&Path> {
        let found = self.join.iter().find(|(flag, _)| *flag == kind as i32);
        found.map(|(_, path)| path.as_path())
    }

    /// What clone3 is to make. The cgroup namespace comes later, when the process is in its cgroup; the time namespace
    /// earlier, because its offsets must be set before it has a process.
    pub(crate) fn clone_flags(&self) -> u64 {
        (self.new & !(LinuxNamespaceType::Cgroup as i32) & !(LinuxNamespaceType::Time as i32)) as u64
    }

    /// Joins what has a path. A joined pid namespace is the children's.
    ///
    /// The host's root may join any but needs its privileges for that, so the user namespace comes last; whoever is not
    /// root gains the privilege for the others only by it. All are opened first: their paths may be out of reach after.
    pub(crate) fn join(&self) -> Result<()> {
        let mut open = Vec::with_capacity(self.join.len());
        for (flag, path) in &self.join {
            open.push((*flag, path, File::open(path).path("open namespace", path)?));
        }
        open.sort_by_key(|(flag, ..)| *flag == LinuxNamespaceType::User as i32);
        let mut refused = Vec::new();
        for (flag, path, file) in open {
            match setns(file.as_fd(), flag) {
                Err(Errno::EPERM) if flag != LinuxNamespaceType::User as i32 => {
                    refused.push((flag, path, file));
                }
                other => other.path("join namespace", path)?,
            }
        }
        for (flag, path, file) in refused {
            setns(file.as_fd(), flag).path("join namespace", path)?;
        }
        Ok(())
    }

    /// Makes the time namespace that the children will be in.
    pub(crate) fn prepare_time(&self, offsets: Option<&HashMap<String, LinuxTimeOffset>>) -> Result<()> {
        if !self.is_new(LinuxNamespaceType::Time) {
            return Ok(());
        }
        unshare(CloneFlags::from_bits_retain(LinuxNamespaceType::Time as i32))
            .call("unshare time namespace")?;
        let lines: Vec<String> = offsets
            .into_iter()
            .flatten()
            .map(|(clock, o)| {
                format!(
                    "{clock} {} {}\n",
                    o.secs().unwrap_or(0),
                    o.nanosecs().unwrap_or(0)
                )
            })
            .collect();
        let path = Path::new("/proc/self/timens_offsets");
        match lines.is_empty() {
            true => Ok(()),
            false => std::fs::write(path, lines.concat()).path("write", path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(namespaces: &str) -> Result<Plan> {
        let json = format!(r#"{{"ociVersion":"1.0.2","linux":{{"namespaces":{namespaces}}}}}"#);
        Plan::read(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn kinds_are_sorted_into_new_and_joined() {
        let p =
            plan(r#"[{"type":"mount"},{"type":"cgroup"},{"type":"network","path":"/run/ns/net"}]"#).unwrap();
        assert_eq!(p.new, libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP);
        assert_eq!(p.clone_flags(), libc::CLONE_NEWNS as u64);
        assert!(p.has(LinuxNamespaceType::Network) && !p.is_new(LinuxNamespaceType::Network));
    }

    #[test]
    fn contradictions_name_their_field() {
        let e = plan(r#"[{"type":"mount"},{"type":"mount"}]"#)
            .unwrap_err()
            .to_string();
        assert_eq!(e, "linux.namespaces[1].type: appears twice");
        let e = plan(r#"[{"type":"mount"},{"type":"ipc","path":"ns/ipc"}]"#)
            .unwrap_err()
            .to_string();
        assert!(e.starts_with("linux.namespaces[1].path: ns/ipc"), "{e}");
        assert!(plan("[]").is_err());
    }
}
