//! The container's view of its cgroups (mounts of type `cgroup`): v1 by controller, v2 as one tree.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::unistd::symlinkat;

use super::mounts::mount_new;
use super::options::MountOptions;
use super::pivot::propagate;
use super::resolve::ensure_folder;
use crate::cgroup::{Hierarchy, Mode, detect, hierarchies};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{FsContext, MountAttr, attach, attr, clone_tree, set_attr};

/// What a cgroup mount shows.
pub(crate) struct View<'a> {
    /// The container's group, relative to the hierarchies' roots.
    pub(crate) path: &'a Path,
    /// Whether the container has a cgroup namespace, in which its group is the root.
    pub(crate) own_namespace: bool,
}

/// The hierarchies that a container sees: on a host of both kinds those of v1, as with runc, so that either restores what the other
/// has dumped.
fn shown() -> impl Iterator<Item = &'static Hierarchy> {
    let wanted = detect() == Mode::V2;
    hierarchies()
        .iter()
        .filter(move |hierarchy| hierarchy.v2 == wanted)
}

/// The container's groups in the host's hierarchies, by the order of [`shown`], as mounts that are attached nowhere.
pub(super) struct Opened(Vec<OwnedFd>);

/// Opens the groups, unless new instances of the file systems are to show them.
pub(super) fn open(view: &View<'_>, options: &MountOptions) -> Result<Option<Opened>> {
    if view.own_namespace {
        return Ok(None);
    }
    let opened = shown().map(|h| bind(&h.mount.join(view.path), options));
    opened.collect::<Result<_>>().map(|all| Some(Opened(all)))
}

/// Mounts the cgroups at `destination`.
pub(super) fn mount(
    root: BorrowedFd<'_>,
    view: &View<'_>,
    opened: Option<Opened>,
    destination: &Path,
    options: &MountOptions,
) -> Result<()> {
    let opened = match opened {
        Some(opened) => Some(opened),
        None => open(view, options)?,
    };
    match detect() {
        Mode::V1 => mount_v1(root, opened, destination, options),
        Mode::V2 => mount_v2(root, opened, destination, options),
    }
}

fn mount_v2(
    root: BorrowedFd<'_>,
    opened: Option<Opened>,
    destination: &Path,
    options: &MountOptions,
) -> Result<()> {
    let place = ensure_folder(root, destination)?;
    let mount = if let Some(opened) = opened {
        let missing = Error::invalid("mounts", "the host has no cgroup2");
        opened.0.into_iter().next().ok_or(missing)?
    } else {
        let context = FsContext::open("cgroup2").call("fsopen cgroup2")?;
        // the super block is the host's: options that aren't given again would be lost for the host, too
        for option in ["nsdelegate", "memory_recursiveprot"] {
            let _ = context.flag(option); // not known to every kernel
        }
        context.mount(options.attrs.set).call("mount cgroup2")?
    };
    attach(mount.as_fd(), place.fd.as_fd()).call("attach cgroup2")
}

/// A tmpfs with a folder for each hierarchy, as hosts have it, each showing the container's group only.
fn mount_v1(
    root: BorrowedFd<'_>,
    opened: Option<Opened>,
    destination: &Path,
    options: &MountOptions,
) -> Result<()> {
    let mut top = MountOptions {
        attrs: options.attrs,
        ..MountOptions::default()
    };
    top.attrs.set &= !attr::RDONLY;
    top.data.push("mode=755".to_owned());
    let tmpfs = mount_new(root, "tmpfs", Some(Path::new("tmpfs")), destination, &top)?;
    let mut opened = opened.map(|all| all.0.into_iter());
    for hierarchy in shown() {
        let ready = opened.as_mut().and_then(Iterator::next);
        let Some(name) = hierarchy.mount.file_name() else {
            continue;
        };
        let place = ensure_folder(tmpfs.as_fd(), Path::new(name))?;
        let mount = match ready {
            Some(mount) => mount,
            None => new_instance(hierarchy, options)?,
        };
        attach(mount.as_fd(), place.fd.as_fd()).path("attach cgroup", &hierarchy.mount)?;
        link_controllers(&tmpfs, hierarchy, name);
    }
    if options.attrs.set & attr::RDONLY != 0 {
        let attrs = MountAttr {
            set: attr::RDONLY,
            ..MountAttr::default()
        };
        set_attr(tmpfs.as_fd(), &attrs, false).call("make cgroup tmpfs read-only")?;
    }
    Ok(())
}

fn new_instance(hierarchy: &Hierarchy, options: &MountOptions) -> Result<OwnedFd> {
    let path = &hierarchy.mount;
    let context =
        FsContext::open(if hierarchy.v2 { "cgroup2" } else { "cgroup" }).path("mount cgroup", path)?;
    for controller in &hierarchy.controllers {
        match controller.split_once('=') {
            Some((key, value)) => context.set(key, value),
            None => context.flag(controller),
        }
        .path("mount cgroup", path)?;
    }
    context.mount(options.attrs.set).path("mount cgroup", path)
}

fn bind(folder: &PathBuf, options: &MountOptions) -> Result<OwnedFd> {
    let mount = clone_tree(AT_FDCWD, folder, false).path("bind cgroup", folder)?;
    propagate(mount.as_fd(), nix::mount::MsFlags::MS_PRIVATE).path("make private cgroup", folder)?;
    super::bind::set(&mount, options.attrs, false).path("set attributes of cgroup", folder)?;
    Ok(mount)
}

/// `cpu` and `cpuacct` lead to `cpu,cpuacct` where the host has both in one.
fn link_controllers(tmpfs: &OwnedFd, hierarchy: &Hierarchy, name: &OsStr) {
    for controller in hierarchy
        .controllers
        .iter()
        .filter(|c| !c.contains('=') && OsStr::new(c.as_str()) != name)
    {
        // a convenience only
        let _ = symlinkat(name, tmpfs, controller.as_str());
    }
}
