//! User namespaces that nothing runs in: they carry the id mappings of mounts (mount_setattr(2), MOUNT_ATTR_IDMAP).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use crate::error::{Context, Error, Result};
use crate::sys::fd::close_all_but;
use crate::sys::process::{Forked, exit_now, fork, wait};

/// A mapping of users and one of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mappings {
    uids: Vec<LinuxIdMapping>,
    gids: Vec<LinuxIdMapping>,
}

impl Mappings {
    fn new(uids: Option<&Vec<LinuxIdMapping>>, gids: Option<&Vec<LinuxIdMapping>>) -> Self {
        Self {
            uids: uids.cloned().unwrap_or_default(),
            gids: gids.cloned().unwrap_or_default(),
        }
    }
}

/// The namespaces that the mounts of one container are mapped by, each made at most once.
pub(crate) struct IdMaps {
    own: Mappings,
    own_path: Option<PathBuf>,
    made: Vec<(Mappings, OwnedFd)>,
}

impl IdMaps {
    /// Those of a container; nothing is made yet.
    pub(crate) fn new(spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
        let path = namespaces
            .iter()
            .find(|n| n.typ() == LinuxNamespaceType::User)
            .and_then(|n| n.path().clone())
            .filter(|path| !path.as_os_str().is_empty());
        Self {
            own: Mappings::new(
                linux.and_then(|l| l.uid_mappings().as_ref()),
                linux.and_then(|l| l.gid_mappings().as_ref()),
            ),
            own_path: path,
            made: Vec::new(),
        }
    }

    /// The mappings of the container's own user namespace: that namespace if it exists, else one like it.
    pub(crate) fn own(&mut self) -> Result<BorrowedFd<'_>> {
        self.find(self.own.clone())
    }

    /// The mappings of a mount; the container's own where it has none.
    pub(crate) fn of_mount(
        &mut self,
        uids: Option<&Vec<LinuxIdMapping>>,
        gids: Option<&Vec<LinuxIdMapping>>,
    ) -> Result<BorrowedFd<'_>> {
        let wanted = Mappings::new(uids, gids);
        match wanted.uids.is_empty() && wanted.gids.is_empty() {
            true => self.own(),
            false => self.find(wanted),
        }
    }

    fn find(&mut self, wanted: Mappings) -> Result<BorrowedFd<'_>> {
        let at = match self.made.iter().position(|(mappings, _)| *mappings == wanted) {
            Some(at) => at,
            None => {
                let namespace = match &self.own_path {
                    Some(path) if wanted == self.own => File::open(path).path("open namespace", path)?.into(),
                    _ => make(&wanted)?,
                };
                self.made.push((wanted, namespace));
                self.made.len() - 1
            }
        };
        Ok(self.made[at].1.as_fd())
    }
}

/// A user namespace with these mappings.
fn make(mappings: &Mappings) -> Result<OwnedFd> {
    if mappings.uids.is_empty() || mappings.gids.is_empty() {
        return Err(Error::invalid(
            "uidMappings, gidMappings",
            "an idmapped mount needs both, of its own or of the container's user namespace",
        ));
    }
    carrier(|pid| {
        write_map(pid, "uid_map", &mappings.uids)?;
        write_map(pid, "gid_map", &mappings.gids)
    })
}

/// A new user namespace, which lives as long as the descriptor. `map` writes its maps, given the process that is in it.
pub(crate) fn carrier(map: impl FnOnce(Pid) -> Result<()>) -> Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair().call("socketpair")?;
    let child = match fork().call("fork")? {
        Forked::Parent(pid) => pid,
        Forked::Child(_child) => {
            let code = match hold_namespace(&theirs) {
                Ok(()) => 0,
                Err(_) => 1,
            };
            exit_now(code);
        }
    };
    drop(theirs);
    let made = take_namespace(child, &ours, map);
    drop(ours); // lets the child end
    wait(child).call("wait for user namespace")?;
    made
}

fn hold_namespace(socket: &UnixStream) -> Result<()> {
    close_all_but(&[socket.as_fd()]).call("close_range")?;
    unshare(CloneFlags::CLONE_NEWUSER).call("unshare user namespace")?;
    (&mut &*socket).write_all(b"!").call("report user namespace")?;
    // until it is taken; end of file
    let _ = (&mut &*socket).read(&mut [0]);
    Ok(())
}

fn take_namespace(child: Pid, socket: &UnixStream, map: impl FnOnce(Pid) -> Result<()>) -> Result<OwnedFd> {
    (&mut &*socket).read_exact(&mut [0]).map_err(|_| Error::Ended {
        what: "making a user namespace",
        status: "without one".to_owned(),
    })?;
    map(child)?;
    let path = format!("/proc/{child}/ns/user");
    Ok(File::open(&path).path("open namespace", &path)?.into())
}

/// Writes `uid_map` or `gid_map` of a process.
pub(crate) fn write_map(pid: Pid, name: &str, mappings: &[LinuxIdMapping]) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let text: String = mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
        .collect();
    // one write(2): the kernel takes a map only as a whole
    fs::write(&path, text).path("write", &path)
}

/// What 0 of a process's user namespace is outside it: user and group. None if it has no 0.
pub(crate) fn root_outside(pid: Pid) -> Result<Option<(u32, u32)>> {
    let id = |name: &str| -> Result<Option<u32>> {
        let path = format!("/proc/{pid}/{name}");
        let text = fs::read_to_string(&path).path("read", &path)?;
        Ok(outside_of_zero(&text))
    };
    Ok(id("uid_map")?.zip(id("gid_map")?))
}

fn outside_of_zero(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        (fields.next()? == "0").then(|| fields.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_found_in_maps() {
        assert_eq!(
            outside_of_zero("         0     100000      65536\n"),
            Some(100_000)
        );
        assert_eq!(outside_of_zero("5 7 1\n0 9 1\n"), Some(9));
        assert_eq!(outside_of_zero("1 7 1\n"), None);
    }

    #[test]
    fn a_mount_without_mappings_needs_the_containers() {
        let spec: Spec = serde_json::from_str(r#"{"ociVersion":"1.2.0","linux":{}}"#).unwrap();
        let e = IdMaps::new(&spec).of_mount(None, None).unwrap_err().to_string();
        assert!(e.contains("needs both"), "{e}");
    }
}
