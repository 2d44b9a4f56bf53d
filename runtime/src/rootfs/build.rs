//! The order in which a root file system is put together.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Spec;

use super::cgroupfs::{self, View};
use super::resolve::{ensure_file, ensure_folder, open_path};
use super::sources::{Root, Sources, at, is_bind, root_propagation, show_folder};
use super::{bind, devices, mask, mounts, overlay, pivot};
use crate::error::{Context, Result};
use crate::protocol::Overlay;
use crate::sys::mount::attach;

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
        mut sources: Sources,
        overlay: Option<&Overlay>,
        bind_devices: bool,
    ) -> Result<Self> {
        pivot::isolate_mounts()?;
        let root = match std::mem::replace(&mut sources.root, Root::Path(Path::new("/").into())) {
            // The folder of `root.path` may be out of reach in here. On the root of this mount namespace the new one lies
            // as well: a process goes on seeing what is below.
            Root::Mount(mount) => {
                attach(mount.as_fd(), open_path(Path::new("/"))?.as_fd()).call("attach root file system")?;
                mount
            }
            Root::Path(path) => {
                match overlay {
                    Some(overlay) => overlay::mount_overlay(overlay, open_path(&path)?.as_fd())?,
                    None => attach(show_folder(&path)?.as_fd(), open_path(&path)?.as_fd())
                        .path("attach root file system", &path)?,
                }
                // opened anew: what lies on top now
                open_path(&path)?
            }
        };
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

    /// Makes all mounts in the order given. `cgroup_ready` is called when the first mount of that type comes.
    pub(crate) fn mount_all(
        &mut self,
        cgroup: Option<&View<'_>>,
        mut cgroup_ready: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let list = self.spec.mounts().as_deref().unwrap_or_default();
        let ready = std::mem::take(&mut self.sources.ready);
        let mut opened = std::mem::take(&mut self.sources.cgroups);
        opened.resize_with(list.len(), || None);
        let all = list.iter().zip(&self.sources.options).zip(ready).zip(opened);
        for (((mount, options), source), opened) in all {
            let destination = mount.destination();
            let done = match source {
                Some(source) => self.attach_ready(&source, destination),
                None => match (mount.typ().as_deref().unwrap_or_default(), cgroup) {
                    ("cgroup" | "cgroup2", Some(view)) => cgroup_ready()
                        .and_then(|()| cgroupfs::mount(self.root(), view, opened, destination, options)),
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

    fn attach_ready(&self, source: &bind::Source, destination: &Path) -> Result<()> {
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
    pub(crate) fn finish(mut self, no_pivot: bool) -> Result<OwnedFd> {
        match no_pivot {
            false => pivot::pivot(self.root())?,
            true => pivot::move_root(self.root())?,
        }
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
