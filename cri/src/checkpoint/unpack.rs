//! A checkpoint's files, out of an archive or an image made of one, into a folder of ours.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use oci_spec::runtime::Spec;
use pintle_images::Image;
use pintle_runtime::protocol::Overlay;
use pintle_runtime::rootfs::{detached_overlay, open_in_root};

use super::archive::from_archive;
use super::metadata::{self, ConfigDump};
use super::{CONFIG, DELETED, DIFF, IMAGES, SPEC, apply, bad, fit};
use crate::container::remove_tree;
use crate::core::Core;
use crate::error::{IoContext as _, Result};

/// An image with one of these annotations is a checkpoint's (CRI-O's, and that of later tools).
const ANNOTATIONS: [&str; 2] = [
    "io.kubernetes.cri-o.annotations.checkpoint.name",
    "org.criu.checkpoint.container.name",
];
/// The most files of criu's; a process has some ten.
const MAX_FILES: usize = 1 << 18;
/// The largest JSON file.
const MAX_JSON: u64 = 16 << 20;
/// The largest list of deleted files.
const MAX_DELETED: u64 = 256 << 20;
/// criu's first file, without which there is no checkpoint.
const INVENTORY: &str = "inventory.img";

/// Where a checkpoint is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A tar archive.
    Archive(PathBuf),
    /// An image that holds an archive's files.
    Image(Arc<Image>),
}

impl Source {
    /// What an image's name says: an absolute path is an archive, a name may be that of an image made of one. None for
    /// an ordinary image.
    pub(crate) fn of(image: &str, found: Option<&Arc<Image>>) -> Option<Self> {
        if image.starts_with('/') {
            return Some(Self::Archive(image.into()));
        }
        let is_checkpoint =
            |image: &&Arc<Image>| ANNOTATIONS.iter().any(|key| image.annotations.contains_key(*key));
        found
            .filter(is_checkpoint)
            .map(|image| Self::Image(Arc::clone(image)))
    }
}

/// The files of a checkpoint in a folder of ours, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: PathBuf,
    pub(super) config: ConfigDump,
    pub(super) spec: Spec,
}

impl Staged {
    /// Copies what is wanted of a checkpoint. Blocking.
    ///
    /// # Errors
    /// [`crate::Error::BadCheckpoint`] for one that is cut off, or not a checkpoint; nothing is left then.
    pub(crate) fn unpack(core: &Core, id: &str, source: &Source) -> Result<Self> {
        let mut staged = Self {
            folder: make_folder(core, id)?,
            config: ConfigDump::default(),
            spec: Spec::default(),
        };
        let images = staged.folder.join(IMAGES);
        fs::create_dir(&images).io("create folder", &images)?;
        match source {
            Source::Archive(path) => from_archive(path, &staged.folder)?,
            Source::Image(image) => from_image(&core.images.layers_of(&image.id)?, &staged.folder)?,
        }
        if !images.join(INVENTORY).is_file() {
            return Err(bad(format!("{IMAGES}/{INVENTORY} is missing")));
        }
        staged.config = metadata::read(&staged.folder, CONFIG)?;
        staged.spec = metadata::read(&staged.folder, SPEC)?;
        Ok(staged)
    }

    /// Whether it was this daemon's kind that wrote it.
    pub(crate) fn is_ours(&self) -> bool {
        self.config.runtime == metadata::RUNTIME
    }

    /// Names of the image that the container was made from, the surest first.
    pub(crate) fn images_of_base(&self) -> impl Iterator<Item = &str> {
        self.config.images()
    }

    /// A reference of that image.
    pub(crate) fn pullable(&self) -> &str {
        match self.config.rootfs_image_name.as_str() {
            "" => &self.config.rootfs_image,
            name => name,
        }
    }

    /// Fails where the container that the request makes isn't the one that was checkpointed; `strict` also compares what
    /// it runs. What only its former engine gave it is added to `spec`, with a file in the folder `bundle`.
    pub(crate) fn check(&self, spec: &mut Spec, bundle: &Path, strict: bool) -> Result<()> {
        fit::adopt(&self.spec, spec, &bundle.join("containerenv"))?;
        fit::mounts(&self.spec, spec)?;
        match strict {
            true => fit::process(&self.spec, spec),
            false => Ok(()),
        }
    }

    /// criu's images.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder.join(IMAGES)
    }

    /// Puts what the container had written and deleted into its new writable layer. Blocking.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(crate) fn apply(&self, rootfs: &Overlay) -> Result<()> {
        let root: OwnedFd = open_in_root(
            detached_overlay(rootfs)?.as_fd(),
            Path::new("/"),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        )?;
        let diff = self.folder.join(DIFF);
        if diff.exists() {
            apply::unpack(
                io::BufReader::new(File::open(&diff).io("open", &diff)?),
                root.as_fd(),
            )?;
        }
        if self.folder.join(DELETED).exists() {
            let deleted: Vec<PathBuf> = metadata::read(&self.folder, DELETED)?;
            apply::delete(root.as_fd(), &deleted)?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.folder) {
            tracing::warn!(%error, "the files of a checkpoint are left");
        }
    }
}

/// A new folder of this name that only root can look into.
pub(super) fn make_folder(core: &Core, id: &str) -> Result<PathBuf> {
    let folder = core.paths.checkpoints().join(id);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .io("create folder", &folder)?;
    Ok(folder)
}

/// A file that is wanted, relative to the checkpoint's folder, and the most bytes that it may have.
pub(super) fn wanted(path: &Path) -> Option<(PathBuf, u64)> {
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    let first = match parts.next()? {
        Component::Normal(name) => name.to_str()?,
        _ => return None,
    };
    match (first, parts.next(), parts.next()) {
        (CONFIG | SPEC, None, None) => Some((first.into(), MAX_JSON)),
        (DELETED, None, None) => Some((first.into(), MAX_DELETED)),
        (DIFF, None, None) => Some((first.into(), u64::MAX)),
        (IMAGES, Some(Component::Normal(name)), None) => Some((Path::new(IMAGES).join(name), u64::MAX)),
        _ => None,
    }
}

fn from_image(layers: &[PathBuf], into: &Path) -> Result<()> {
    let root = detached_overlay(&Overlay {
        lower: layers.to_vec(),
        ..Overlay::default()
    })?;
    let mut files = 0;
    let mut copy = |path: &Path| -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(fd) = open_in_root(root.as_fd(), path, flags) else {
            return Ok(());
        };
        let mut file = File::from(fd);
        let about = file.metadata().io("stat", path)?;
        let Some((name, most)) = wanted(path).filter(|_| about.is_file()) else {
            return Err(bad(format!("{} is not a plain file", path.display())));
        };
        files += 1;
        save(&into.join(&name), &name, &mut file, about.len(), most, files)
    };
    for name in [CONFIG, SPEC, DIFF, DELETED] {
        copy(Path::new(name))?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let images = open_in_root(root.as_fd(), Path::new(IMAGES), flags)
        .map_err(|_| bad(format!("{IMAGES} is missing")))?;
    let mut images = nix::dir::Dir::from_fd(images)
        .map_err(io::Error::from)
        .io("read folder", IMAGES)?;
    for entry in images.iter() {
        use std::os::unix::ffi::OsStrExt as _;
        let entry = entry.map_err(io::Error::from).io("read folder", IMAGES)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            copy(&Path::new(IMAGES).join(std::ffi::OsStr::from_bytes(name)))?;
        }
    }
    Ok(())
}

/// Copies one file of a checkpoint, of which there have been so many.
pub(super) fn save(
    to: &Path,
    name: &Path,
    from: &mut impl Read,
    size: u64,
    most: u64,
    files: usize,
) -> Result<()> {
    if files > MAX_FILES {
        return Err(bad(format!("has more than {MAX_FILES} files")));
    }
    if size > most {
        return Err(bad(format!("{} has more than {most} bytes", name.display())));
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => bad(format!("{} is there twice", name.display())),
            _ => bad(format!("{}: {error}", name.display())),
        })?;
    let copied = io::copy(&mut from.take(size), &mut file).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => bad(format!("{} is cut off", name.display())),
        _ => bad(format!("{}: {error}", name.display())),
    })?;
    if copied != size {
        return Err(bad(format!("{} is cut off", name.display())));
    }
    Ok(())
}
