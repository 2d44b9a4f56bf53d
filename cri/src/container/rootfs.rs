//! A container's root file system, as it is told the monitor: the image's layers and a writable one of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::sync::Arc;

use pintle_runtime::protocol::Overlay;

use super::Container;
use super::origin::Origin;
use crate::config::Handler;
use crate::core::Core;
use crate::error::{IoContext as _, Result};
use crate::spec::UserIds;

/// Makes the writable layer, filled where the container comes from a checkpoint. Blocking.
///
/// # Errors
/// Those of the image store, and of a checkpoint's files.
pub(super) fn make(
    core: &Core,
    handler: &Handler,
    container: &Arc<Container>,
    ids: UserIds,
    origin: &Origin,
) -> Result<Overlay> {
    let image = container.cell.get().image_id.clone();
    let snapshot = core
        .images
        .snapshot_in(&container.id, &image, handler.snapshots_dir.as_deref())?;
    if ids.are_mapped() {
        shift_owner(&snapshot.upper, ids)?;
    }
    core.layers.refresh(container);
    let mut lower = snapshot.lower;
    // Whether ids can be mapped is known of the images' file system alone, and this may be another.
    if !ids.are_mapped() {
        lower.push(core.paths.mount_points());
    }
    let mut rootfs = Overlay {
        lower,
        upper: Some(snapshot.upper),
        work: Some(snapshot.work),
        options: Vec::new(),
        idmap: ids.are_mapped(),
    };
    origin.fill(&rootfs)?;
    if !handler.settings.sync_rootfs {
        // Else the kernel syncs the whole file system below when a container ends, for as long as that takes.
        rootfs.options.push(Overlay::VOLATILE.to_owned());
    }
    Ok(rootfs)
}

/// The writable layer's folder is the root that the container sees: it belongs to whom the image says, as the pod has it.
fn shift_owner(upper: &Path, ids: UserIds) -> Result<()> {
    let is = fs::metadata(upper).io("stat", upper)?;
    let (uid, gid) = ids.on_host(is.uid(), is.gid());
    chown(upper, Some(uid), Some(gid)).io("set owner of", upper)
}
