//! Checkpoints of containers and pods: archives in the form that CRI-O, containerd and Podman share.
//!
//! ```text
//!   CheckpointContainer   helper freezes and dumps ─▶ files beside the dump (save, diff) ─▶ thawed ─▶ one tar archive
//!   CheckpointPod         the same for several containers, frozen together ─▶ a folder of such archives
//!   CreateContainer       whose image is an archive, or an image made of one: unpack ─▶ base image ─▶ apply ─▶ restored
//!   RestorePod            a sandbox, and each container as above
//!
//!   archive               checkpoint/*         criu's images
//!                         config.dump          id, name, base image
//!                         spec.dump            the runtime spec that it was made from
//!                         bind.mounts          what was mounted from outside
//!                         rootfs-diff.tar      what it has written
//!                         deleted.files        what it has deleted
//!                         dump.log, stats-dump criu's own
//!                         io.kubernetes.cri-o.LogPath   its log
//! ```
//!
//! An archive is anybody's. Of its files only those with these names are taken, out of a plain tar without links; what its
//! spec says grants nothing: the request's config makes the container.

mod apply;
mod archive;
mod container;
mod diff;
mod fit;
mod interest;
mod metadata;
mod pod;
mod restore_pod;
mod save;
mod unpack;

use std::path::PathBuf;

use pintle_runtime::error::Kind;

pub(crate) use container::CONNECTIONS;
pub use container::checkpoint;
pub(crate) use interest::Caller;
pub use pod::checkpoint as checkpoint_pod;
pub use restore_pod::restore as restore_pod;
pub(crate) use unpack::{Source, Staged};

use crate::core::Core;
use crate::error::{Error, Result};

/// criu's images within an archive.
const IMAGES: &str = "checkpoint";
const CONFIG: &str = "config.dump";
const SPEC: &str = "spec.dump";
const BINDS: &str = "bind.mounts";
const DIFF: &str = "rootfs-diff.tar";
const DELETED: &str = "deleted.files";
const LOG: &str = "io.kubernetes.cri-o.LogPath";
const DUMP_LOG: &str = "dump.log";
const STATS: &str = "stats-dump";
/// A pod's: its config, the names of its containers, and its /dev/shm.
const POD_CONFIG: &str = "pod.dump";
const POD_OPTIONS: &str = "pod.options";
const POD_SHM: &str = "devshm-checkpoint.tar";

/// The program criu.
///
/// # Errors
/// Kind `Unsupported`: there is none, or the configuration forbids it.
pub(crate) fn criu(core: &Core) -> Result<PathBuf> {
    let settings = core.config.checkpoint();
    if !settings.enable {
        return Err(Error::Runtime(pintle_runtime::Error::Refused {
            kind: Kind::Unsupported,
            message: "checkpoint/restore support not available: checkpoint.enable is off".to_owned(),
        }));
    }
    Ok(pintle_runtime::checkpoint::find_criu(&settings.criu)?)
}

/// Something is wrong with a checkpoint.
fn bad(reason: impl Into<String>) -> Error {
    Error::BadCheckpoint(reason.into())
}
