//! A container's root file system: overlay, mounts, devices, masks, and the change of root.
//!
//! Everything below the container's root is opened with openat2(RESOLVE_IN_ROOT) and mounted on by descriptor, so that
//! no symlink in an image, nor one that another container swaps in meanwhile, leads a mount elsewhere. What comes
//! from the host is opened before anything of the container is looked at.

mod bind;
mod blank;
mod build;
mod cgroupfs;
mod copyup;
mod devices;
mod mask;
mod mounts;
mod options;
mod overlay;
mod pivot;
mod relabel;
mod resolve;
mod shown;
mod sources;

pub use blank::BlankMounts;
pub(crate) use blank::enter_blank_root;
pub(crate) use build::Builder;
pub(crate) use cgroupfs::View;
#[cfg(test)]
pub(crate) use options::MountOptions;
pub use overlay::{can_map_ids, detached_overlay};
pub(crate) use pivot::{isolate_mounts, propagate};
pub use relabel::relabel;
pub use resolve::{open_in_root, read_in_root};
pub(crate) use resolve::{open_path, open_proc, open_without_symlinks};
pub(crate) use shown::Shown;
pub(crate) use sources::{Sources, has_idmaps, mount_label};
