//! ImageFsInfo, from the store's counters. Images and writable layers share one file system, so there is one entry.

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::proto::{
    FilesystemIdentifier, FilesystemUsage, ImageFsInfoRequest, ImageFsInfoResponse, UInt64Value,
};

pub(super) async fn image_fs_info(core: &Arc<Core>, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse> {
    let usage = core.images.usage();
    let entry = FilesystemUsage {
        timestamp: crate::time::now(),
        fs_id: Some(FilesystemIdentifier {
            mountpoint: core.paths.images().display().to_string(),
        }),
        used_bytes: Some(UInt64Value { value: usage.bytes }),
        inodes_used: Some(UInt64Value { value: usage.inodes }),
    };
    Ok(ImageFsInfoResponse {
        image_filesystems: vec![entry.clone()],
        container_filesystems: vec![entry],
    })
}
