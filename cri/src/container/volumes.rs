//! What an image declares as `VOLUME`: a folder a container, filled with what the image has at that path.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, Permissions};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use pintle_runtime::protocol::Overlay;
use pintle_runtime::rootfs::{detached_overlay, open_in_root};

use crate::error::{IoContext as _, Result};
use crate::spec::UserIds;

/// Makes a folder under `into` for each of `paths`, with the image's content, owned as the pod has it. Blocking; the caller removes `into`
/// whether this succeeds or fails.
///
/// # Errors
/// Of the kernel, while mounting the image or copying.
pub(super) fn make(
    into: &Path,
    paths: &[String],
    layers: &[PathBuf],
    ids: UserIds,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut volumes = BTreeMap::new();
    if paths.is_empty() {
        return Ok(volumes);
    }
    let image = detached_overlay(&Overlay {
        lower: layers.to_vec(),
        ..Overlay::default()
    })?;
    for (number, path) in paths.iter().enumerate() {
        let folder = into.join(number.to_string());
        fs::create_dir_all(&folder).io("create folder", &folder)?;
        match open_in_root(
            image.as_fd(),
            Path::new(path),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        ) {
            // The image is read-only and mounted nowhere, so nothing can change under this path while it is walked.
            Ok(source) => copy_folder(
                Path::new(&format!("/proc/self/fd/{}", source.as_raw_fd())),
                &folder,
                ids,
            )?,
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => {
                let (uid, gid) = ids.root();
                lchown(&folder, Some(uid), Some(gid)).io("set owner of", &folder)?;
            }
            Err(error) => return Err(error.into()),
        }
        volumes.insert(path.clone(), folder);
    }
    Ok(volumes)
}

fn copy_folder(from: &Path, to: &Path, ids: UserIds) -> Result<()> {
    for entry in fs::read_dir(from).io("list folder", from)? {
        let entry = entry.io("list folder", from)?;
        let target = to.join(entry.file_name());
        let metadata = entry.metadata().io("stat", entry.path())?;
        copy_entry(&entry.path(), &target, &metadata, ids)?;
    }
    // Last: the mode may forbid writing, and owning comes before the mode, which chown(2) clears bits of.
    let metadata = fs::metadata(from).io("stat", from)?;
    own(to, &metadata, ids)?;
    fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777)).io("set mode of", to)
}

fn copy_entry(from: &Path, to: &Path, metadata: &Metadata, ids: UserIds) -> Result<()> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        fs::create_dir(to).io("create folder", to)?;
        copy_folder(from, to, ids)
    } else if kind.is_symlink() {
        let target = fs::read_link(from).io("read link", from)?;
        symlink(target, to).io("create link", to)?;
        own(to, metadata, ids)
    } else if kind.is_file() {
        fs::copy(from, to).io("copy", from)?;
        own(to, metadata, ids)?;
        fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777)).io("set mode of", to)
    } else {
        Ok(()) // devices, fifos and sockets of an image have no business in a volume
    }
}

fn own(path: &Path, metadata: &Metadata, ids: UserIds) -> Result<()> {
    let (uid, gid) = ids.on_host(metadata.uid(), metadata.gid());
    lchown(path, Some(uid), Some(gid)).io("set owner of", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::NamespaceOption;

    #[test]
    fn a_tree_is_copied_with_modes_and_links_and_without_following_them() {
        let tmp = tempfile::tempdir().unwrap();
        let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("deep/file"), "text").unwrap();
        fs::set_permissions(from.join("deep/file"), Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        copy_folder(&from, &to, UserIds::new(&NamespaceOption::default())).unwrap();
        assert_eq!(fs::read_to_string(to.join("deep/file")).unwrap(), "text");
        assert_eq!(
            fs::metadata(to.join("deep/file")).unwrap().mode() & 0o7777,
            0o4711
        );
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    }
}
