//! The lowest layer of containers without a user namespace: what the mounts are put on that all containers have.
//!
//! Few images bring `/etc/hosts` and its like, so that each container's own layer would get a copy of the image's `/etc` and
//! three empty files: four inodes to be made and removed on a disk, of the eleven that a pod of one container takes.
//! The image's own files hide those of this layer. Where it hides or removes them itself, they are made in the container's.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::{IoContext as _, Result};

const FOLDERS: [&str; 5] = ["", "dev", "etc", "proc", "sys"];
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// Makes what is missing of the layer in `layer`.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub(crate) fn make(layer: &Path) -> Result<()> {
    for folder in FOLDERS.map(|name| layer.join(name)) {
        fs::create_dir_all(&folder).io("create folder", &folder)?;
        permit(&folder, 0o755)?;
    }
    for file in FILES.map(|name| layer.join(name)) {
        match File::create_new(&file) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map(drop).io("create", &file)?,
        }
        permit(&file, 0o644)?;
    }
    Ok(())
}

/// As a container sees it, whatever the daemon's umask.
fn permit(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).io("set mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_is_missing_is_made() {
        let tmp = tempfile::tempdir().unwrap();
        let layer = tmp.path().join("layer");
        make(&layer).unwrap();
        fs::remove_file(layer.join("etc/hosts")).unwrap();
        fs::set_permissions(layer.join("etc"), Permissions::from_mode(0o700)).unwrap();
        make(&layer).unwrap();
        let mode = |name: &str| fs::metadata(layer.join(name)).unwrap().permissions().mode() & 0o7777;
        assert!(FOLDERS.iter().all(|name| mode(name) == 0o755));
        assert!(FILES.iter().all(|name| mode(name) == 0o644));
    }
}
