//! Dumping: criu writes down what the processes of a container are.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use super::rpc::{CGROUPS_SOFT, NO_NETWORK_LOCK, Options, Pair, Request, kind};
use super::session::{Criu, Place, failure};
use super::{DESCRIPTORS, NET_KEY, NULL, check_spec, explained, freeze, is_external, text};
use crate::cgroup::{self, Handle, Mode};
use crate::error::{Context, Error, Result};
use crate::namespace::Plan;
use crate::rootfs::{open_in_root, open_path};

/// criu's log in the work folder.
const LOG: &str = "dump.log";
/// Unlinked files that are still open are copied up to this size, in bytes.
const GHOSTS: u32 = 256 << 20;

/// What becomes of what leads out of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "criu's own switches")]
pub struct Connections {
    /// TCP connections are dumped as they are, and the network stands still meanwhile.
    pub tcp_established: bool,
    /// TCP connections, where there are any, are closed in what is restored; listening sockets listen on. With neither of
    /// both, connections can't be dumped.
    pub tcp_close: bool,
    /// Unix sockets whose other end is outside are dumped.
    pub ext_unix_sk: bool,
    /// File locks are dumped.
    pub file_locks: bool,
    /// It has the terminal of somebody else's session.
    pub shell_job: bool,
    /// Open files whose name is gone get another one, which stays.
    pub link_remap: bool,
}

/// What to dump, and where to.
#[derive(Debug)]
pub struct Dump<'a> {
    /// The container's init.
    pub pid: i32,
    /// What it was made from.
    pub spec: &'a Spec,
    /// Its cgroup; a frozen one is frozen afterwards.
    pub cgroup: &'a Handle,
    /// An empty folder for the images.
    pub images: &'a Path,
    /// A folder for `dump.log` and `stats-dump`.
    pub work: &'a Path,
    /// The program criu.
    pub criu: &'a Path,
    /// It goes on afterwards; otherwise it is killed.
    pub leave_running: bool,
    /// How long criu may take to stop the processes, in seconds.
    pub timeout: Option<u32>,
    /// What becomes of connections.
    pub connections: Connections,
    /// A pipe from whoever wants it. When its other end is closed the dump is given up, soon: criu itself may not be
    /// killed, for the processes would break.
    pub caller: Option<BorrowedFd<'a>>,
}

/// Dumps a running container. Blocks until criu is done. The caller has one thread.
///
/// # Errors
/// What criu says, or that it was given up; the container then goes on.
pub fn dump(dump: &Dump<'_>) -> Result<()> {
    let plan = Plan::read(dump.spec)?;
    check_spec(dump.spec, &plan)?;
    let images = File::open(dump.images).path("open", dump.images)?;
    let work = File::open(dump.work).path("open", dump.work)?;
    save_descriptors(dump)?;
    let place = Place {
        can_give_up: true,
        ..Place::default()
    };
    let criu = Criu::start(dump.criu, &[], &place)?;
    let version = criu.version()?;
    // criu puts it down as a demand on whoever restores, and not every runtime can meet that
    let closes = dump.connections.tcp_close && has_connections(dump.pid);
    let options = Options {
        images_dir_fd: images.as_raw_fd(),
        work_dir_fd: Some(work.as_raw_fd()),
        pid: Some(dump.pid),
        leave_running: Some(dump.leave_running),
        log_level: Some(4),
        log_file: Some(LOG.to_owned()),
        ext_mnt: external_mounts(dump, &plan)?,
        external: external_namespaces(dump, &plan)?,
        // for those who restore with it: runc looks for the groups that are written down here
        manage_cgroups_mode: Some(CGROUPS_SOFT),
        freeze_cgroup: freeze::folder(dump.cgroup).as_deref().map(text).transpose()?,
        ghost_limit: Some(GHOSTS),
        timeout: dump.timeout,
        orphan_pts_master: Some(true),
        ext_unix_sk: Some(dump.connections.ext_unix_sk),
        tcp_established: Some(dump.connections.tcp_established),
        tcp_close: Some(closes),
        file_locks: Some(dump.connections.file_locks),
        shell_job: Some(dump.connections.shell_job),
        link_remap: Some(dump.connections.link_remap),
        // without connections nobody's packets matter
        network_lock: (!dump.connections.tcp_established && version >= (3, 18)).then_some(NO_NETWORK_LOCK),
        ..Options::default()
    };
    criu.send(&Request {
        kind: kind::DUMP,
        options: Some(options),
        ..Request::default()
    })?;
    let answer = match dump.caller {
        Some(caller) => criu.receive_for(caller),
        None => criu.receive().map(|(response, _)| response),
    };
    criu.end();
    let error = match answer {
        Ok(response) if response.success => return Ok(()),
        Ok(response) => failure("dump this container", Some(&response), dump.work, LOG),
        Err(_) => failure("dump this container", None, dump.work, LOG),
    };
    Err(explained(error, dump.criu, dump.work))
}

/// Whether there is a TCP connection in the network namespace of a process, by `/proc/<pid>/net/tcp` (proc_net(5)).
fn has_connections(pid: i32) -> bool {
    const LISTENS_OR_CLOSED: [&str; 2] = ["0A", "07"];
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let states = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(3));
        states
            .into_iter()
            .any(|state| !LISTENS_OR_CLOSED.contains(&state))
    })
}

/// What the standard streams are, by which they are found again among the images.
fn save_descriptors(dump: &Dump<'_>) -> Result<()> {
    let target = |fd: i32| {
        let link = format!("/proc/{}/fd/{fd}", dump.pid);
        // one that is closed is none
        fs::read_link(link).map_or_else(|_| String::new(), |target| target.to_string_lossy().into_owned())
    };
    let list = [target(0), target(1), target(2)];
    let path = dump.images.join(DESCRIPTORS);
    let json = serde_json::to_vec(&list).map_err(|source| Error::Parse {
        path: path.clone(),
        source,
    })?;
    fs::write(&path, json).path("write", &path)
}

/// Mounts that show something from outside, by their paths in the container, and masked files.
fn external_mounts(dump: &Dump<'_>, plan: &Plan) -> Result<Vec<Pair>> {
    let root_path = PathBuf::from(format!("/proc/{}/root", dump.pid));
    let root = open_path(&root_path)?;
    // a path as the container's own mount table has it, without symlinks
    let resolved = |path: &Path| -> Result<Option<PathBuf>> {
        match open_in_root(root.as_fd(), path, OFlag::O_PATH) {
            Ok(fd) => {
                let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
                fs::read_link(&link).path("read link", &link).map(Some)
            }
            // it may have been covered or taken away since
            Err(_) => Ok(None),
        }
    };
    let mut pairs = Vec::new();
    let mut add = |path: &Path, value: Option<&str>| -> Result<()> {
        if let Some(path) = resolved(path)? {
            let key = text(&path)?;
            let value = value.map_or_else(|| key.clone(), str::to_owned);
            pairs.push(Pair { key, value });
        }
        Ok(())
    };
    for mount in dump.spec.mounts().iter().flatten() {
        match mount.typ().as_deref() {
            _ if is_external(mount) => add(mount.destination(), None)?,
            Some("cgroup") if bound_cgroups(plan) => {
                for name in cgroup::hierarchies().iter().filter_map(|h| h.mount.file_name()) {
                    add(&mount.destination().join(name), None)?;
                }
            }
            _ => {}
        }
    }
    let masked = dump
        .spec
        .linux()
        .as_ref()
        .and_then(|l| l.masked_paths().as_deref());
    for path in masked.unwrap_or_default() {
        let shown = root_path.join(path.trim_start_matches('/'));
        if fs::symlink_metadata(shown).is_ok_and(|about| about.file_type().is_char_device()) {
            add(Path::new(path), Some(NULL))?;
        }
    }
    Ok(pairs)
}

/// Whether a container's cgroup mounts are binds of the host's: those of v1 are, without a cgroup namespace.
pub(super) fn bound_cgroups(plan: &Plan) -> bool {
    cgroup::detect() == Mode::V1 && !plan.has(LinuxNamespaceType::Cgroup)
}

fn external_namespaces(dump: &Dump<'_>, plan: &Plan) -> Result<Vec<String>> {
    if !plan.joins(LinuxNamespaceType::Network) {
        return Ok(Vec::new());
    }
    let path = format!("/proc/{}/ns/net", dump.pid);
    let about = fs::metadata(&path).path("stat", &path)?;
    Ok(vec![format!("net[{}]:{NET_KEY}", about.ino())])
}
