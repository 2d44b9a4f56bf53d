//! A container's root on a path of the caller's mount namespace, and its volumes beside it: what somebody else puts
//! together who goes by paths.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use oci_spec::runtime::Spec;

use super::resolve::{ensure_file, ensure_folder, open_in_root, open_path};
use super::sources::{Root, Sources, at, is_bind, show_folder};
use super::{bind, overlay};
use crate::error::{Context, Error, Result};
use crate::protocol::Overlay;
use crate::sys::mount::attach;

/// The root, mounted.
pub(crate) struct Shown {
    root: OwnedFd,
    /// Where it lies, without symlinks.
    base: PathBuf,
    sources: Sources,
}

impl Shown {
    /// Mounts the root on the folder `place`, in a mount namespace of the caller's own.
    pub(crate) fn new(mut sources: Sources, overlay: Option<&Overlay>, place: &Path) -> Result<Self> {
        let root = std::mem::replace(&mut sources.root, Root::Path(place.into()));
        match (root, overlay) {
            (Root::Mount(mount), _) => attach(mount.as_fd(), open_path(place)?.as_fd()),
            (Root::Path(_), Some(overlay)) => {
                overlay::mount_overlay(overlay, open_path(place)?.as_fd())?;
                Ok(())
            }
            (Root::Path(path), None) => attach(show_folder(&path, false)?.as_fd(), open_path(place)?.as_fd()),
        }
        .path("attach root file system on", place)?;
        // opened anew: what lies on top now
        let root = open_path(place)?;
        Ok(Self {
            base: path_of(&root)?,
            root,
            sources,
        })
    }

    /// Makes the files and folders that mounts are put on. Those below what isn't there yet come with it. The binds are
    /// attached as they come, for some lie on others: to be done in a mount namespace that is given up afterwards, with
    /// sources of its own.
    pub(crate) fn make_places(&self, spec: &Spec, mut sources: Sources) -> Result<()> {
        let root = open_path(&self.base)?;
        let list = spec.mounts().as_deref().unwrap_or_default();
        let mut missing: Vec<&Path> = Vec::new();
        for (index, mount) in list.iter().enumerate() {
            let destination = mount.destination();
            if missing.iter().any(|above| destination.starts_with(above)) {
                continue;
            }
            match sources.ready.get_mut(index).and_then(Option::take) {
                Some(bind::Source {
                    mount: source,
                    is_folder,
                }) => {
                    let make = if is_folder { ensure_folder } else { ensure_file };
                    make(root.as_fd(), destination)
                        .and_then(|place| {
                            attach(source.as_fd(), place.fd.as_fd()).path("attach on", destination)
                        })
                        .map_err(|e| at(mount, e))?;
                }
                None => {
                    if !is_bind(mount, &sources.options[index]) {
                        missing.push(destination);
                    }
                    ensure_folder(root.as_fd(), destination).map_err(|e| at(mount, e))?;
                }
            }
        }
        Ok(())
    }

    /// Attaches what comes from outside in the folder given; for each mount, where it is.
    pub(crate) fn show_beside(&self, folder: &Path) -> Result<Vec<Option<PathBuf>>> {
        let show = |(index, source): (usize, &Option<bind::Source>)| {
            let Some(source) = source else { return Ok(None) };
            let path = folder.join(index.to_string());
            match source.is_folder {
                true => fs::create_dir(&path).path("create folder", &path)?,
                false => fs::write(&path, "").path("create", &path)?,
            }
            attach(source.mount.as_fd(), open_path(&path)?.as_fd()).path("attach on", &path)?;
            Ok(Some(path))
        };
        self.sources.ready.iter().enumerate().map(show).collect()
    }

    /// A path in the container without symlinks, as far as it is there.
    pub(crate) fn resolved(&self, path: &Path) -> Result<PathBuf> {
        if let Ok(fd) = open_in_root(self.root.as_fd(), path, OFlag::O_PATH) {
            let full = path_of(&fd)?;
            let inside = full.strip_prefix(&self.base);
            let inside =
                inside.map_err(|_| Error::io("find in root file system", path, nix::errno::Errno::EXDEV))?;
            return Ok(Path::new("/").join(inside));
        }
        let plain = path
            .components()
            .filter(|part| !matches!(part, Component::CurDir));
        Ok(plain.collect())
    }
}

fn path_of(fd: &OwnedFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    fs::read_link(&link).path("read link", &link)
}
