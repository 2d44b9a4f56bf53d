//! ImageFsInfo, from the store's counters. Images and writable layers share one file system, except where runtime handlers
//! have folders of their own for the latter: those come after it.

use std::path::Path;
use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::proto::{
    FilesystemIdentifier, FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse, UInt64Value,
};

pub(super) async fn image_fs_info(core: &Arc<Core>, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse> {
    let usage = core.images.usage();
    let images = entry(&core.paths.images(), usage.bytes, usage.inodes);
    let mut containers = vec![images.clone()];
    containers.extend(
        core.config
            .snapshot_places()
            .iter()
            .map(|place| written(core, place)),
    );
    Ok(ImageFsInfoResponse {
        image_filesystems: vec![images],
        container_filesystems: containers,
    })
}

/// What the containers of a place had written when that was last counted.
fn written(core: &Core, place: &Path) -> FilesystemUsage {
    let (mut bytes, mut inodes) = (0, 0);
    for container in core.containers.all() {
        if core.layer_place(&container.pod_id) == place
            && let Some(usage) = core.layers.usage(&container)
        {
            bytes += usage.bytes;
            inodes += usage.inodes;
        }
    }
    entry(place, bytes, inodes)
}

fn entry(place: &Path, bytes: u64, inodes: u64) -> FilesystemUsage {
    FilesystemUsage {
        timestamp: crate::time::now(),
        fs_id: Some(FilesystemIdentifier {
            mountpoint: place.display().to_string(),
        }),
        used_bytes: Some(UInt64Value { value: bytes }),
        inodes_used: Some(UInt64Value { value: inodes }),
    }
}
