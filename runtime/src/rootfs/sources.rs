//! What a root file system is made from that lies on the host: opened before the container's own tree is looked at,
//! and, where ids are mapped, by a process outside the container's user namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;
use oci_spec::runtime::{Mount, Spec};

use super::mask::Masks;
use super::options::{MountOptions, propagation};
use super::{bind, cgroupfs, overlay, pivot};
use crate::error::{Context, Error, Result};
use crate::namespace::IdMaps;
use crate::protocol::Overlay;
use crate::sys::mount::clone_tree;

/// The root itself.
pub(super) enum Root {
    /// Still to be mounted.
    Path(PathBuf),
    /// Mounted, and attached nowhere.
    Mount(OwnedFd),
}

/// What is taken from the host's file systems.
pub(crate) struct Sources {
    /// Those of each mount.
    pub(super) options: Vec<MountOptions>,
    /// The mounts that show something of the host's.
    pub(super) ready: Vec<Option<bind::Source>>,
    pub(super) masks: Option<Masks>,
    pub(super) root: Root,
    /// The host's cgroups for the mounts that show them, opened early; None where the mount opens them itself.
    pub(super) cgroups: Vec<Option<cgroupfs::Opened>>,
}

impl Sources {
    /// Checks all mounts and opens the sources of the binds. `strict` demands of a source that is to propagate that
    /// it can.
    pub(crate) fn open(spec: &Spec, bundle: &Path, strict: bool, maps: &mut IdMaps) -> Result<Self> {
        let opener = Opener {
            bundle,
            strict,
            base: base_propagation(spec)?,
        };
        let list = spec.mounts().as_deref().unwrap_or_default();
        let mut options = Vec::with_capacity(list.len());
        let mut ready = Vec::with_capacity(list.len());
        for (i, mount) in list.iter().enumerate() {
            let mut parsed = check_mount(i, mount)?;
            if let Some(label) = mount_label(spec).filter(|_| takes_label(mount, &parsed)) {
                parsed.data.push(format!("context={label}"));
            }
            ready.push(opener.open(i, mount, &parsed, maps)?);
            options.push(parsed);
        }
        let linux = spec.linux().as_ref();
        let masked = linux.is_some_and(|l| l.masked_paths().as_ref().is_some_and(|m| !m.is_empty()));
        let masks = if masked { Some(Masks::prepare()?) } else { None };
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| Error::invalid("root", "is missing"))?;
        Ok(Self {
            options,
            ready,
            masks,
            root: Root::Path(bundle.join(root.path())),
            cgroups: Vec::new(),
        })
    }

    /// Opens the container's cgroups where a mount shows them.
    pub(crate) fn open_cgroups(&mut self, spec: &Spec, view: &cgroupfs::View<'_>) -> Result<()> {
        let list = spec.mounts().as_deref().unwrap_or_default();
        let opened = list
            .iter()
            .zip(&self.options)
            .map(|(mount, options)| match mount.typ().as_deref() {
                Some("cgroup" | "cgroup2") if !is_bind(mount, options) => {
                    cgroupfs::open(view, options).map_err(|e| at(mount, e))
                }
                _ => Ok(None),
            });
        self.cgroups = opened.collect::<Result<_>>()?;
        Ok(())
    }

    /// Mounts the root, too, for a container that could not reach its layers.
    pub(crate) fn mount_root(&mut self, overlay: Option<&Overlay>, maps: &mut IdMaps) -> Result<()> {
        let Root::Path(path) = &self.root else {
            return Ok(());
        };
        let mount = match overlay {
            Some(overlay) if overlay.idmap => overlay::mapped_overlay(overlay, maps.own()?)?,
            Some(overlay) => overlay::private_overlay(overlay)?,
            None => show_folder(path)?,
        };
        self.root = Root::Mount(mount);
        Ok(())
    }
}

/// A tree of the host's as a root, cut off from the mounts that it shows.
pub(super) fn show_folder(path: &Path) -> Result<OwnedFd> {
    let mount = clone_tree(AT_FDCWD, path, true).path("bind root file system", path)?;
    pivot::propagate(mount.as_fd(), MsFlags::MS_PRIVATE | MsFlags::MS_REC)
        .path("make private root file system", path)?;
    Ok(mount)
}

struct Opener<'a> {
    bundle: &'a Path,
    strict: bool,
    /// The propagation of mounts that say nothing about it.
    base: MsFlags,
}

impl Opener<'_> {
    /// None for what is made inside the container.
    fn open(
        &self,
        index: usize,
        mount: &Mount,
        options: &MountOptions,
        maps: &mut IdMaps,
    ) -> Result<Option<bind::Source>> {
        let mapped = is_mapped(mount, options);
        if !is_bind(mount, options) {
            return match mount.typ().as_deref() {
                Some("overlay") => layers(mount, options, mapped, maps).map(Some),
                _ => Ok(None),
            };
        }
        let Some(source) = mount.source() else {
            return Err(Error::invalid(
                format!("mounts[{index}].source"),
                "a bind needs a source",
            ));
        };
        let asked = bind::Asked {
            // relative ones are relative to the bundle
            source: &self.bundle.join(source),
            options: &MountOptions {
                bind: options.bind.or(Some(false)),
                ..options.clone()
            },
            base: self.base,
            strict: self.strict,
        };
        let users = match mapped {
            true => Some(maps.of_mount(mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref())),
            false => None,
        };
        users
            .transpose()
            .and_then(|users| bind::open_source(&asked, users))
            .map(Some)
            .map_err(|e| at(mount, e))
    }
}

/// An overlay among the mounts, such as an image that is mounted as a volume.
fn layers(mount: &Mount, options: &MountOptions, mapped: bool, maps: &mut IdMaps) -> Result<bind::Source> {
    let overlay = overlay::from_options(&options.data);
    let made = match mapped {
        true => maps
            .of_mount(mount.uid_mappings().as_ref(), mount.gid_mappings().as_ref())
            .and_then(|users| overlay::mapped_overlay(&overlay, users)),
        false => overlay::private_overlay(&overlay),
    };
    made.and_then(|mount| bind::from_mount(mount, options))
        .map_err(|e| at(mount, e))
}

/// `linux.mountLabel`: the SELinux label of the files of all that is mounted for this container alone.
pub(crate) fn mount_label(spec: &Spec) -> Option<&str> {
    let label = spec.linux().as_ref().and_then(|l| l.mount_label().as_deref());
    label.filter(|label| !label.is_empty())
}

/// The kernel's own trees have labels of their own.
fn takes_label(mount: &Mount, options: &MountOptions) -> bool {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let of_kernel = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "bpf"].contains(&kind);
    !of_kernel && !is_bind(mount, options) && !options.data.iter().any(|o| o.starts_with("context="))
}

/// Whether a process outside the container's namespaces has to open the sources.
pub(crate) fn has_idmaps(spec: &Spec) -> bool {
    let list = spec.mounts().as_deref().unwrap_or_default();
    let words = |m: &Mount| {
        m.options()
            .iter()
            .flatten()
            .any(|o| matches!(o.as_str(), "idmap" | "ridmap"))
    };
    list.iter()
        .any(|m| m.uid_mappings().is_some() || m.gid_mappings().is_some() || words(m))
}

fn is_mapped(mount: &Mount, options: &MountOptions) -> bool {
    let given = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    options.idmap.is_some() || given(mount.uid_mappings()) || given(mount.gid_mappings())
}

pub(super) fn at(mount: &Mount, source: Error) -> Error {
    Error::Mount {
        destination: mount.destination().clone(),
        source: Box::new(source),
    }
}

pub(super) fn is_bind(mount: &Mount, options: &MountOptions) -> bool {
    options.bind.is_some() || mount.typ().as_deref() == Some("bind")
}

fn check_mount(index: usize, mount: &Mount) -> Result<MountOptions> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let destination = mount.destination();
    if !destination.is_absolute() {
        return Err(Error::invalid(
            field("destination"),
            format!("{destination:?} is not an absolute path"),
        ));
    }
    let options = MountOptions::parse(index, mount.options().as_deref().unwrap_or_default())?;
    let kind = mount.typ().as_deref().unwrap_or_default();
    if !is_bind(mount, &options) && kind.is_empty() {
        return Err(Error::invalid(field("type"), "is missing"));
    }
    if options.copy_up && kind != "tmpfs" {
        return Err(Error::invalid(field("options"), "tmpcopyup needs a tmpfs"));
    }
    if is_mapped(mount, &options) && !is_bind(mount, &options) && kind != "overlay" {
        return Err(Error::invalid(
            field("options"),
            "mapping ids needs bind or rbind",
        ));
    }
    Ok(options)
}

/// `linux.rootfsPropagation`.
pub(super) fn root_propagation(spec: &Spec) -> Result<Option<MsFlags>> {
    let name = spec
        .linux()
        .as_ref()
        .and_then(|l| l.rootfs_propagation().as_deref());
    name.filter(|n| !n.is_empty())
        .map(|n| {
            propagation(n)
                .ok_or_else(|| Error::invalid("linux.rootfsPropagation", format!("{n:?} is not known")))
        })
        .transpose()
}

/// What the binds are given unless they say otherwise. The root's own unbindable or shared says nothing about what is
/// bound into it.
fn base_propagation(spec: &Spec) -> Result<MsFlags> {
    let base = root_propagation(spec)?.unwrap_or(MsFlags::MS_SLAVE | MsFlags::MS_REC);
    Ok(match base & !MsFlags::MS_REC {
        MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        MsFlags::MS_SHARED => MsFlags::empty(),
        _ => MsFlags::MS_SLAVE | MsFlags::MS_REC,
    })
}
