//! The order in which a root file system is put together.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;
use oci_spec::runtime::{Mount, Spec};

use super::cgroupfs::{self, View};
use super::mask::{self, Masks};
use super::options::{MountOptions, propagation};
use super::resolve::{ensure_file, ensure_folder, open_path};
use super::{bind, devices, mounts, overlay, pivot};
use crate::error::{Context, Error, Result};
use crate::protocol::Overlay;
use crate::sys::mount::{attach, clone_tree};

/// What is taken from the host's file systems: opened before the container's are entered, and, where the container has
/// a user namespace, by a process that is outside it.
pub(crate) struct Sources {
    options: Vec<MountOptions>,
    binds: Vec<Option<bind::Source>>,
    masks: Option<Masks>,
    root: PathBuf,
}

impl Sources {
    /// Checks all mounts and opens the sources of the binds. `strict` demands of a source that is to propagate that
    /// it can.
    pub(crate) fn open(spec: &Spec, bundle: &Path, strict: bool) -> Result<Self> {
        let base = root_propagation(spec)?.unwrap_or(MsFlags::MS_SLAVE | MsFlags::MS_REC);
        // the root's own unbindable or shared says nothing about what is bound into it
        let base = match base & !MsFlags::MS_REC {
            MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
            MsFlags::MS_SHARED => MsFlags::empty(),
            _ => MsFlags::MS_SLAVE | MsFlags::MS_REC,
        };
        let list = spec.mounts().as_deref().unwrap_or_default();
        let mut options = Vec::with_capacity(list.len());
        let mut binds = Vec::with_capacity(list.len());
        for (i, mount) in list.iter().enumerate() {
            let parsed = check_mount(i, mount)?;
            binds.push(match (is_bind(mount, &parsed), mount.source()) {
                (true, Some(source)) => {
                    // relative ones are relative to the bundle
                    let source = bundle.join(source);
                    let parsed = MountOptions {
                        bind: parsed.bind.or(Some(false)),
                        ..parsed.clone()
                    };
                    Some(bind::open_source(&source, &parsed, base, strict).map_err(|e| at(mount, e))?)
                }
                (true, None) => {
                    return Err(Error::invalid(
                        format!("mounts[{i}].source"),
                        "a bind needs a source",
                    ));
                }
                (false, _) => None,
            });
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
            binds,
            masks,
            root: bundle.join(root.path()),
        })
    }
}

fn at(mount: &Mount, source: Error) -> Error {
    Error::Mount {
        destination: mount.destination().clone(),
        source: Box::new(source),
    }
}

fn is_bind(mount: &Mount, options: &MountOptions) -> bool {
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
    if !is_bind(mount, &options) && mount.typ().as_deref().unwrap_or_default().is_empty() {
        return Err(Error::invalid(field("type"), "is missing"));
    }
    if options.copy_up && mount.typ().as_deref() != Some("tmpfs") {
        return Err(Error::invalid(field("options"), "tmpcopyup needs a tmpfs"));
    }
    let unsupported = [
        (options.copy_up, "tmpcopyup"),
        (options.idmap.is_some(), "idmap"),
        (
            mount.uid_mappings().is_some() || mount.gid_mappings().is_some(),
            "uidMappings",
        ),
    ];
    match unsupported.iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(Error::invalid(
            field("options"),
            format!("{name} is not supported"),
        )),
        None => Ok(options),
    }
}

/// `linux.rootfsPropagation`.
fn root_propagation(spec: &Spec) -> Result<Option<MsFlags>> {
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

/// Builds a root file system in the caller's mount namespace, which must be one of its own.
pub(crate) struct Builder<'a> {
    spec: &'a Spec,
    sources: Sources,
    root: OwnedFd,
    /// Nodes can't be made in a user namespace; the host's are bound instead.
    bind_devices: bool,
}

impl<'a> Builder<'a> {
    /// Cuts the mount namespace off and mounts the root itself: an overlay, or the folder of `root.path`.
    pub(crate) fn new(
        spec: &'a Spec,
        sources: Sources,
        overlay: Option<&Overlay>,
        bind_devices: bool,
    ) -> Result<Self> {
        pivot::isolate_mounts()?;
        let path = &sources.root;
        match overlay {
            Some(overlay) => overlay::mount_overlay(overlay, open_path(path)?.as_fd())?,
            None => {
                let mount = clone_tree(AT_FDCWD, path, true).path("bind root file system", path)?;
                pivot::propagate(mount.as_fd(), MsFlags::MS_PRIVATE | MsFlags::MS_REC)
                    .path("make private root file system", path)?;
                attach(mount.as_fd(), open_path(path)?.as_fd()).path("attach root file system", path)?;
            }
        }
        // opened anew: what lies on top now
        let root = open_path(path)?;
        Ok(Self {
            spec,
            sources,
            root,
            bind_devices,
        })
    }

    /// The container's root.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Makes all mounts in the order given. `cgroup` is asked for when the first mount of that type comes.
    pub(crate) fn mount_all(
        &mut self,
        cgroup: Option<&Path>,
        own_cgroup_namespace: bool,
        mut cgroup_ready: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let list = self.spec.mounts().as_deref().unwrap_or_default();
        let binds = std::mem::take(&mut self.sources.binds);
        for ((mount, options), source) in list.iter().zip(&self.sources.options).zip(binds) {
            let destination = mount.destination();
            let done = match source {
                Some(source) => self.attach_bind(&source, destination),
                None => match (mount.typ().as_deref().unwrap_or_default(), cgroup) {
                    ("cgroup" | "cgroup2", Some(path)) => cgroup_ready().and_then(|()| {
                        let view = View {
                            path,
                            own_namespace: own_cgroup_namespace,
                        };
                        cgroupfs::mount(self.root(), &view, destination, options)
                    }),
                    (fstype, _) => {
                        let source = mount.source().as_deref();
                        mounts::mount_new(self.root(), fstype, source, destination, options).map(|_| ())
                    }
                },
            };
            done.map_err(|e| at(mount, e))?;
        }
        Ok(())
    }

    fn attach_bind(&self, source: &bind::Source, destination: &Path) -> Result<()> {
        let make = if source.is_folder {
            ensure_folder
        } else {
            ensure_file
        };
        let place = make(self.root(), destination)?;
        attach(source.mount.as_fd(), place.fd.as_fd()).path("attach on", destination)
    }

    /// Makes device nodes and links, unless /dev is the host's own or brought along as a bind.
    pub(crate) fn make_devices(&self) -> Result<()> {
        let list = self.spec.mounts().as_deref().unwrap_or_default();
        let brought = list
            .iter()
            .zip(&self.sources.options)
            .any(|(m, o)| m.destination().components().eq(Path::new("/dev").components()) && is_bind(m, o));
        if brought {
            return Ok(());
        }
        devices::make_standard(self.root(), self.bind_devices)?;
        let given = self
            .spec
            .linux()
            .as_ref()
            .and_then(|l| l.devices().as_deref())
            .unwrap_or_default();
        devices::make_given(self.root(), given, self.bind_devices)
    }

    /// Opens a master in the container's devpts.
    pub(crate) fn open_ptmx(&self) -> Result<OwnedFd> {
        devices::open_ptmx(self.root())
    }

    /// Mounts a terminal on /dev/console.
    pub(crate) fn bind_console(&self, slave: BorrowedFd<'_>) -> Result<()> {
        devices::bind_console(self.root(), slave)
    }

    /// Makes the folder that the process starts in, if it is missing.
    pub(crate) fn ensure_cwd(&self, cwd: &Path) -> Result<()> {
        // only what is missing entirely: a cwd that the process may not enter is its own affair
        match ensure_folder(self.root(), cwd) {
            Err(e) if e.errno() == Some(nix::errno::Errno::ENOENT) => Err(e),
            _ => Ok(()),
        }
    }

    /// Changes the root, then covers and write-protects what the specification lists.
    pub(crate) fn finish(mut self) -> Result<OwnedFd> {
        pivot::pivot(self.root())?;
        if let Some(flags) = root_propagation(self.spec)? {
            pivot::set_propagation(self.root(), flags)?;
        }
        let linux = self.spec.linux().as_ref();
        for path in linux
            .and_then(|l| l.readonly_paths().as_deref())
            .unwrap_or_default()
        {
            mask::make_readonly(self.root.as_fd(), Path::new(path))?;
        }
        if let Some(masks) = &mut self.sources.masks {
            for path in linux
                .and_then(|l| l.masked_paths().as_deref())
                .unwrap_or_default()
            {
                masks.cover(self.root.as_fd(), Path::new(path))?;
            }
        }
        if self
            .spec
            .root()
            .as_ref()
            .is_some_and(|r| r.readonly() == Some(true))
        {
            pivot::make_readonly(self.root())?;
        }
        Ok(self.root)
    }
}
