//! Overlays for a process of one thread: also with mapped ids, and also where the kernel wants layers to be attached.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::wait::WaitStatus;
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use super::{fd_path, in_one_string, layer_by_layer, show_readonly};
use crate::error::{Context, Error, Result};
use crate::namespace::{carrier, write_map};
use crate::protocol::Overlay;
use crate::rootfs::pivot::isolate_mounts;
use crate::rootfs::resolve::open_path;
use crate::sys::mount::{FsContext, attach, attr, clone_tree, map_ids};
use crate::sys::process::{Forked, exit_now, fork, wait};

/// Like [`super::detached_overlay`], for a process of one thread, whose mount namespace may change.
pub(in crate::rootfs) fn private_overlay(overlay: &Overlay) -> Result<OwnedFd> {
    if let ([only], None) = (overlay.lower.as_slice(), &overlay.upper) {
        return show_readonly(only);
    }
    match layer_by_layer(overlay) {
        Err(Error::Io {
            errno: Errno::EINVAL, ..
        }) => in_own_namespace(overlay, &[]),
        other => other,
    }
}

/// Like [`private_overlay`], with the ids of the lower layers shown through a user namespace.
pub(in crate::rootfs) fn mapped_overlay(overlay: &Overlay, users: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut layers = Vec::with_capacity(overlay.lower.len());
    for path in &overlay.lower {
        let layer = show_readonly(path)?;
        map_ids(layer.as_fd(), users, false).path("map the ids of layer", path)?;
        layers.push(layer);
    }
    if let (1, None) = (layers.len(), &overlay.upper) {
        return layers
            .pop()
            .ok_or_else(|| Error::sys("show layer", Errno::EINVAL));
    }
    let by_fd = Overlay {
        lower: layers.iter().map(|l| fd_path(l.as_fd()).into()).collect(),
        ..overlay.clone()
    };
    match layer_by_layer(&by_fd) {
        // before Linux 6.15 layers must be attached in the caller's mount namespace
        Err(Error::Io {
            errno: Errno::EINVAL, ..
        }) => in_own_namespace(&by_fd, &layers),
        other => other,
    }
}

/// Whether the file system of a folder, which must be writable, can show its ids mapped, also as a layer of an
/// overlay.
///
/// # Errors
/// The folder can't be written to.
pub fn can_map_ids(dir: &Path) -> Result<bool> {
    let probe = dir.join(".idmap-probe");
    let lower = vec![probe.join("upper-layer"), probe.join("lower-layer")];
    for layer in &lower {
        fs::create_dir_all(layer).path("create folder", layer)?;
    }
    let overlay = Overlay {
        lower,
        ..Overlay::default()
    };
    let found = try_map_ids(&overlay);
    fs::remove_dir_all(&probe).path("remove folder", &probe)?;
    found
}

/// In a process of its own, since the caller may have threads.
fn try_map_ids(overlay: &Overlay) -> Result<bool> {
    let write = |pid, name| write_map(pid, name, &[mapping(1, 1)]);
    let users = match carrier(|pid| write(pid, "uid_map").and_then(|()| write(pid, "gid_map"))) {
        Ok(users) => users,
        // no user namespaces, or not allowed
        Err(_) => return Ok(false),
    };
    match fork().call("fork")? {
        Forked::Child(_child) => {
            let code = match mapped_overlay(overlay, users.as_fd()) {
                Ok(_) => 0,
                Err(_) => 1,
            };
            exit_now(code);
        }
        Forked::Parent(pid) => {
            let ended = wait(pid).call("wait for probe of idmapped mounts")?;
            Ok(matches!(ended, WaitStatus::Exited(_, 0)))
        }
    }
}

/// From 0 on, `size` ids lie from `host_id` on.
fn mapping(host_id: u32, size: u32) -> LinuxIdMapping {
    // every field has a default: this can't fail
    LinuxIdMappingBuilder::default()
        .host_id(host_id)
        .container_id(0_u32)
        .size(size)
        .build()
        .unwrap_or_default()
}

/// The way of older kernels: in a mount namespace that is the caller's own from now on, where the layers given are
/// attached.
fn in_own_namespace(overlay: &Overlay, layers: &[OwnedFd]) -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS).call("unshare mount namespace")?;
    isolate_mounts(false)?;
    let top = FsContext::open("tmpfs")
        .and_then(|context| context.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC))
        .call("make tmpfs for layers")?;
    // on the root, which this process goes on seeing uncovered
    attach(top.as_fd(), open_path(Path::new("/"))?.as_fd()).call("attach tmpfs for layers")?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = |name: &str| openat(&top, name, flags, Mode::empty()).call("open place for layer");
    let make = |name: &str| {
        mkdirat(&top, name, Mode::S_IRWXU).call("make place for layer")?;
        open(name)
    };
    for (i, layer) in layers.iter().enumerate() {
        attach(layer.as_fd(), make(&i.to_string())?.as_fd()).call("attach layer")?;
    }
    let place = make("overlay")?;
    let made = match layer_by_layer(overlay) {
        Err(Error::Io {
            errno: Errno::EINVAL, ..
        }) => in_one_string(overlay, place.as_fd()).and_then(|()| {
            let mounted = open("overlay")?;
            clone_tree(mounted.as_fd(), Path::new(""), false).call("detach overlay")
        }),
        other => other,
    };
    // the overlay has clones of its layers; what covers the root would make this process count as chrooted, which may
    // not make user namespaces, and could not be unmounted from within one
    umount2(fd_path(top.as_fd()).as_str(), MntFlags::MNT_DETACH).call("unmount tmpfs of layers")?;
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::read_in_root;
    use std::os::unix::fs::MetadataExt;

    fn layers(count: usize) -> (tempfile::TempDir, Overlay) {
        let dir = tempfile::tempdir().unwrap();
        let mut overlay = Overlay::default();
        for i in 0..count {
            let layer = dir.path().join(i.to_string());
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(format!("file{i}")), "").unwrap();
            overlay.lower.push(layer);
        }
        (dir, overlay)
    }

    fn users() -> OwnedFd {
        let mapping = mapping(100_000, 65536);
        carrier(|pid| {
            write_map(pid, "uid_map", &[mapping])?;
            write_map(pid, "gid_map", &[mapping])
        })
        .unwrap()
    }

    fn owners(root: &OwnedFd, count: usize) -> Vec<(u32, u32)> {
        let path = |i| format!("{}/file{i}", fd_path(root.as_fd()));
        let stats = (0..count).map(|i| fs::metadata(path(i)).unwrap());
        stats.map(|m| (m.uid(), m.gid())).collect()
    }

    #[test]
    fn ids_of_one_layer_and_of_many_are_shown_mapped() {
        for count in [1, 2, 40] {
            let (_dir, overlay) = layers(count);
            let root = mapped_overlay(&overlay, users().as_fd()).unwrap();
            assert_eq!(owners(&root, count), vec![(100_000, 100_000); count]);
        }
    }

    #[test]
    fn the_way_of_older_kernels_maps_them_too() {
        let (_dir, overlay) = layers(40);
        let users = users();
        let owners = std::thread::spawn(move || {
            // the test's threads share their working folder, which a mount namespace of one's own forbids
            unshare(CloneFlags::CLONE_FS).unwrap();
            let layers: Vec<OwnedFd> = overlay.lower.iter().map(|l| show_readonly(l).unwrap()).collect();
            for layer in &layers {
                map_ids(layer.as_fd(), users.as_fd(), false).unwrap();
            }
            let by_fd = Overlay {
                lower: layers.iter().map(|l| fd_path(l.as_fd()).into()).collect(),
                ..Overlay::default()
            };
            // descriptors of a thread are those of the whole process
            owners(&in_own_namespace(&by_fd, &layers).unwrap(), 40)
        });
        assert_eq!(owners.join().unwrap(), vec![(100_000, 100_000); 40]);
    }

    #[test]
    fn the_probe_tells_yes_here_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(can_map_ids(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(!can_map_ids(Path::new("/proc/self/root/proc/1")).unwrap_or(false));
    }

    #[test]
    fn layers_among_mount_options_are_found() {
        let options: Vec<String> = ["ro", "lowerdir=/a\\:b:/c\\\\d", "index=off"]
            .map(str::to_owned)
            .to_vec();
        let overlay = crate::rootfs::overlay::from_options(&options);
        assert_eq!(overlay.lower, [Path::new("/a:b"), Path::new("/c\\d")]);
        assert_eq!(overlay.options, ["ro", "index=off"]);
        let (_dir, overlay) = layers(2);
        let root = private_overlay(&overlay).unwrap();
        assert_eq!(read_in_root(root.as_fd(), Path::new("/file1"), 9).unwrap(), b"");
    }
}
