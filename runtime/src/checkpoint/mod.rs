//! Checkpoint and restore of a container's processes, by criu.
//!
//! ```text
//!   dump      frozen ─▶ criu swrk ─▶ images/            (still frozen: whoever asked saves the files that belong to it)
//!               └──────────────────────────── thawed, whatever came of it
//!
//!   restore   stage ── fork ─▶ keeper: mounts root and volumes in a mount namespace of its own
//!                                │ fork, into the container's cgroup
//!                                ├──▶ criu swrk ── clone, as its sibling ─▶ init, and all the others
//!                                │ ◀── pre-resume: everything is there, and nothing has run yet
//!                                checks, limits, "ready" … a byte … criu lets them go, and ends; so does the keeper
//! ```
//!
//! Nothing of a checkpoint is trusted. What mounts, namespaces, cgroup and limits the container gets is decided by its
//! specification, which is the caller's; what its processes are restored with is compared with that specification before
//! they run (`verify`).
//!
//! How criu is asked, and the names by which images refer to what lies outside of them (`extRootNetNS`, the paths of
//! mounts, `descriptors.json`), are as runc has them, so that either can restore what the other has dumped.

mod child;
mod dump;
mod freeze;
mod group;
pub(crate) mod helper;
mod restore;
mod rpc;
mod session;
mod verify;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use serde::{Deserialize, Serialize};

pub use dump::{Connections, Dump, dump};
pub use freeze::Frozen;
pub use helper::{Checkpoint, HELPER_ARGUMENT, Target, run as run_helper};
pub(crate) use restore::run as run_restore;

use crate::error::{Error, Kind, Result};
use crate::namespace::Plan;
use rpc::{Options, Request, kind};
use session::{Criu, Place};

/// The key of a container's network namespace, where it isn't its own.
const NET_KEY: &str = "extRootNetNS";
/// What standard streams a container had: an array of the targets of `/proc/<pid>/fd/{0,1,2}`.
const DESCRIPTORS: &str = "descriptors.json";
/// The key of masked files.
const NULL: &str = "/dev/null";

/// Where the processes of a container come from that is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restore {
    /// criu's images; only read.
    pub images: PathBuf,
    /// An empty folder for what is needed meanwhile, and for `restore.log`.
    pub work: PathBuf,
    /// The program criu.
    pub criu: PathBuf,
    /// What becomes of connections.
    pub connections: Connections,
    /// Another engine has made it, whose root folder may have another mode (`skip_file_rwx_check`) and whose mounts hear of
    /// others outside. These here hear of nothing: criu mounts in its older way (`mntns_compat_mode`), for in the newer one
    /// it wants the same outside again.
    pub foreign: bool,
}

/// Asks criu whether it can work on this host.
///
/// # Errors
/// Kind `Unsupported`, with what is missing.
pub fn check(criu: &Path, work: &Path) -> Result<()> {
    use crate::error::Context as _;
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let folder = std::fs::File::open(work).path("open", work)?;
    let talk = Criu::start(criu, &[folder.as_fd()], &Place::default())?;
    talk.version()?;
    talk.send(&Request {
        kind: kind::CHECK,
        options: Some(Options {
            images_dir_fd: folder.as_raw_fd(),
            log_file: Some("check.log".to_owned()),
            log_level: Some(1),
            ..Options::default()
        }),
        ..Request::default()
    })?;
    let answer = talk.receive();
    let outcome = match &answer {
        Ok((response, _)) if response.success => Ok(()),
        other => Err(unsupported(&session::failure(
            "work on this host",
            other.as_ref().ok().map(|(response, _)| response),
            work,
            "check.log",
        ))),
    };
    talk.end();
    outcome
}

/// The program criu: the path given, or the first of that name on `PATH`.
///
/// # Errors
/// Kind `Unsupported`: there is none.
pub fn find_criu(name: &str) -> Result<PathBuf> {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = std::env::var_os("PATH").unwrap_or_else(|| usual.into());
    let candidates: Vec<PathBuf> = match name.contains('/') {
        true => vec![PathBuf::from(name)],
        // an administrator's tools are not on everybody's path
        false => std::env::split_paths(&path)
            .chain(std::env::split_paths(usual))
            .map(|folder| folder.join(name))
            .collect(),
    };
    candidates
        .into_iter()
        .find(|program| program.is_file())
        .ok_or_else(|| {
            refused(
                Kind::Unsupported,
                format!("CRIU binary not found or too old: there is no {name} (Debian: apt install criu)"),
            )
        })
}

fn unsupported(error: &Error) -> Error {
    refused(
        Kind::Unsupported,
        format!("checkpoint/restore support not available: {error}"),
    )
}

/// What is to be told of a failure: that this host can't do it at all, if that is so.
fn explained(error: Error, criu: &Path, work: &Path) -> Error {
    check(criu, work).err().unwrap_or(error)
}

fn refused(kind: Kind, message: impl Into<String>) -> Error {
    Error::Refused {
        kind,
        message: message.into(),
    }
}

/// What criu can't do, or what has not been tried: told by name rather than half done.
fn check_spec(spec: &Spec, plan: &Plan) -> Result<()> {
    let no = |what: &str| {
        let message = format!("checkpoint/restore support not available for a container {what}");
        Err(refused(Kind::Unsupported, message))
    };
    if plan.has(LinuxNamespaceType::User) {
        return no("in a user namespace");
    }
    if plan.joins(LinuxNamespaceType::Pid) {
        return no("that shares another's PID namespace");
    }
    if plan.joins(LinuxNamespaceType::Cgroup) {
        return no("that shares another's cgroup namespace");
    }
    let linux = spec.linux().as_ref();
    if linux.is_some_and(|l| {
        l.net_devices()
            .as_ref()
            .is_some_and(|devices| !devices.is_empty())
    }) {
        return no("with network devices of the host's");
    }
    if linux.is_some_and(|l| l.intel_rdt().is_some()) {
        return no("with resctrl groups");
    }
    let id_mapped = spec.mounts().iter().flatten().any(|mount| {
        let words = |o: &String| o == "idmap" || o == "ridmap";
        mount.options().iter().flatten().any(words) || mount.uid_mappings().is_some()
    });
    if id_mapped {
        return no("with idmapped mounts");
    }
    Ok(())
}

/// Whether a mount shows something of the host's: criu is told what, and does not look into it.
fn is_external(mount: &Mount) -> bool {
    let bound = |o: &String| o == "bind" || o == "rbind";
    mount.options().iter().flatten().any(bound) || matches!(mount.typ().as_deref(), Some("bind" | "overlay"))
}

/// A path as protobuf's strings can hold it.
fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::invalid("path", format!("{} is not UTF-8", path.display())))
}
