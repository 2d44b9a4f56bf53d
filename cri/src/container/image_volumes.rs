//! Image volumes: images that containers mount as folders, read-only.
//!
//! Each is a view of the image in the store, which holds the layers as a container's own snapshot does, so that the image may be removed while
//! they are in use. The layers are put together in the container's own mount namespace, so that the host sees no
//! mount. A sub path is looked up in the whole image first, where symlinks lead nowhere but into the image, and then in each
//! layer: what overlayfs would show of the folder is the overlay of the layers' own folders.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlink};
use pintle_runtime::protocol::Overlay;
use pintle_runtime::rootfs::{detached_overlay, open_in_root};

use super::ContainerRecord;
use crate::core::Core;
use crate::error::{IoContext as _, Result};
use crate::proto::Mount;
use crate::spec::{ImageMount, SpecError, image_mount_key};

/// overlayfs's word for a folder that hides what the layers below have.
const OPAQUE: &str = "trusted.overlay.opaque";

/// The view that holds the layers of a container's n-th mount.
fn holder(container: &str, mount: usize) -> String {
    format!("{container}-image-{mount}")
}

/// The container that a view is for.
pub(crate) fn container_of(view: &str) -> &str {
    view.split_once('-').map_or(view, |(container, _)| container)
}

fn image_mounts(mounts: &[Mount]) -> impl Iterator<Item = (usize, &Mount, &str)> {
    let named = |(at, mount): (usize, _)| {
        let mount: &Mount = mount;
        Some((at, mount, mount.image.as_ref()?.image.as_str()))
    };
    mounts.iter().enumerate().filter_map(named)
}

/// The ids of the images that a container mounts, by the names that its config has for them; what is not here is left out.
///
/// # Errors
/// A name that can be none.
pub(super) fn ids(core: &Core, mounts: &[Mount]) -> Result<BTreeMap<String, String>> {
    let mut ids = BTreeMap::new();
    for (_, _, name) in image_mounts(mounts).filter(|(_, _, name)| !name.is_empty()) {
        if let Some(image) = core.images.get(name)? {
            ids.insert(name.to_owned(), image.id.clone());
        }
    }
    Ok(ids)
}

/// What is to be mounted for each image volume. Blocking; the layers are held from here on, until [`release`].
///
/// # Errors
/// An image that isn't here, or without the sub path.
pub(super) fn prepare(core: &Core, record: &ContainerRecord) -> Result<BTreeMap<String, ImageMount>> {
    let mut found = BTreeMap::new();
    for (at, mount, name) in image_mounts(&record.config.mounts) {
        // What can't be is refused with the rest of the config.
        if name.is_empty() || !is_inside(&mount.image_sub_path) {
            continue;
        }
        let failed = |reason| SpecError::ImageVolume {
            image: name.to_owned(),
            container_path: mount.container_path.clone(),
            reason,
        };
        let id = record.image_volumes.get(name);
        let id = id.ok_or_else(|| failed("it is not on this node: pull it first"))?;
        let layers = core.images.view(&holder(&record.id, at), id)?.lower;
        let source = match mount.image_sub_path.as_str() {
            "" => ImageMount::Layers(layers),
            path => at_path(layers, path)?.ok_or_else(|| failed("image_sub_path is not in the image"))?,
        };
        found.insert(image_mount_key(name, &mount.image_sub_path), source);
    }
    Ok(found)
}

/// Lets go of the layers that were held for a container's image volumes.
pub(super) fn release(core: &Core, record: &ContainerRecord) -> Result<()> {
    for (at, _, _) in image_mounts(&record.config.mounts) {
        core.images.release_view(&holder(&record.id, at))?;
    }
    Ok(())
}

fn is_inside(path: &str) -> bool {
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    !path.contains('\0') && Path::new(path).components().all(plain)
}

/// A file or folder of an image; None where there is neither.
fn at_path(layers: Vec<PathBuf>, path: &str) -> Result<Option<ImageMount>> {
    let image = detached_overlay(&Overlay {
        lower: layers.clone(),
        ..Overlay::default()
    })?;
    let opened = match open_in_root(image.as_fd(), Path::new(path), OFlag::O_PATH) {
        Err(e) if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => {
            return Ok(None);
        }
        other => other?,
    };
    // The path of what was found, from the image's root, with all symlinks walked.
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let real = readlink(link.as_str())
        .map_err(std::io::Error::from)
        .io("read link", &link)?;
    let parts: Vec<_> = Path::new(&real)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    if parts.is_empty() {
        return Ok(Some(ImageMount::Layers(layers)));
    }
    merged(&layers, &parts)
}

/// What overlayfs would show at a path of these layers, the topmost first.
fn merged(layers: &[PathBuf], parts: &[Component<'_>]) -> Result<Option<ImageMount>> {
    let mut folders = Vec::new();
    for layer in layers {
        match in_layer(layer, parts)? {
            InLayer::Nothing => {}
            InLayer::File(path) if folders.is_empty() => return Ok(Some(ImageMount::Path(path))),
            InLayer::Folder(path) => folders.push(path),
            InLayer::LastFolder(path) => {
                folders.push(path);
                break;
            }
            InLayer::Hidden | InLayer::File(_) => break,
        }
    }
    Ok((!folders.is_empty()).then_some(ImageMount::Layers(folders)))
}

/// What a layer has at a path.
enum InLayer {
    /// Nothing: the layers below decide.
    Nothing,
    /// Nothing, nor have the layers below.
    Hidden,
    /// A folder, which merges with those below.
    Folder(PathBuf),
    /// A folder that hides those below.
    LastFolder(PathBuf),
    /// A file.
    File(PathBuf),
}

fn in_layer(layer: &Path, parts: &[Component<'_>]) -> Result<InLayer> {
    let mut here = layer.to_owned();
    let mut opaque = false;
    for (at, part) in parts.iter().enumerate() {
        here.push(part);
        let metadata = match fs::symlink_metadata(&here) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(if opaque { InLayer::Hidden } else { InLayer::Nothing });
            }
            other => other.io("stat", &here)?,
        };
        let is_end = at + 1 == parts.len();
        if metadata.is_dir() {
            opaque |= is_opaque(&here)?;
        } else if is_end && metadata.is_file() {
            return Ok(InLayer::File(here));
        } else {
            // A whiteout, or something that isn't a folder and hides those below.
            return Ok(InLayer::Hidden);
        }
    }
    Ok(if opaque {
        InLayer::LastFolder(here)
    } else {
        InLayer::Folder(here)
    })
}

fn is_opaque(folder: &Path) -> Result<bool> {
    let mut value = [0_u8; 1];
    match rustix::fs::lgetxattr(folder, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::RANGE) => Ok(false),
        Err(errno) => Err(std::io::Error::from(errno)).io("read attributes of", folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn layer(root: &Path, name: &str, files: &[&str]) -> PathBuf {
        let layer = root.join(name);
        fs::create_dir_all(&layer).unwrap();
        for file in files {
            fs::create_dir_all(layer.join(file).parent().unwrap()).unwrap();
            fs::write(layer.join(file), name).unwrap();
        }
        layer
    }

    fn opaque(folder: &Path) {
        rustix::fs::lsetxattr(folder, OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    }

    fn whiteout(path: &Path) {
        use nix::sys::stat::{Mode, SFlag, mknod};
        mknod(path, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    }

    #[test]
    fn folders_of_layers_are_merged_as_overlayfs_would() {
        let tmp = tempfile::tempdir().unwrap();
        let top = layer(tmp.path(), "top", &["data/new"]);
        let middle = layer(tmp.path(), "middle", &["data/x/file", "other/thing"]);
        let bottom = layer(tmp.path(), "bottom", &["data/old", "other/hidden", "file"]);
        opaque(&middle.join("other"));
        whiteout(&top.join("file"));
        symlink("data/x", bottom.join("link")).unwrap();
        let layers = vec![top.clone(), middle.clone(), bottom.clone()];
        let at = |path: &str| at_path(layers.clone(), path).unwrap();
        let folders = |of: &[&Path]| Some(ImageMount::Layers(of.iter().map(|p| (*p).to_owned()).collect()));

        assert_eq!(
            at("data"),
            folders(&[&top.join("data"), &middle.join("data"), &bottom.join("data")])
        );
        assert_eq!(at("./data/x/"), folders(&[&middle.join("data/x")]));
        assert_eq!(
            at("link"),
            folders(&[&middle.join("data/x")]),
            "a link leads into a layer above"
        );
        assert_eq!(at("other"), folders(&[&middle.join("other")]), "opaque");
        assert_eq!(at("other/hidden"), None);
        assert_eq!(at("data/old"), Some(ImageMount::Path(bottom.join("data/old"))));
        assert_eq!(at("file"), None, "whiteout");
        assert_eq!(at("absent"), None);
        assert_eq!(at("."), folders(&[&top, &middle, &bottom]));
    }

    #[test]
    fn links_lead_nowhere_but_into_the_image() {
        let tmp = tempfile::tempdir().unwrap();
        let only = layer(tmp.path(), "only", &["etc/hostname"]);
        symlink("/etc", only.join("abs")).unwrap();
        symlink("../../../../etc", only.join("up")).unwrap();
        symlink("loop", only.join("loop")).unwrap();
        for path in ["abs/hostname", "up/hostname"] {
            let found = at_path(vec![only.clone()], path).unwrap();
            assert_eq!(found, Some(ImageMount::Path(only.join("etc/hostname"))), "{path}");
        }
        assert_eq!(at_path(vec![only.clone()], "loop").unwrap(), None);
        assert_eq!(at_path(vec![only], "up/passwd").unwrap(), None, "not the host's");
        assert!(!is_inside("../x") && !is_inside("/etc") && is_inside("a/./b"));
    }

    #[test]
    fn a_holder_names_its_container() {
        assert_eq!(container_of(&holder("abc", 3)), "abc");
        assert_eq!(container_of("abc"), "abc");
    }
}
