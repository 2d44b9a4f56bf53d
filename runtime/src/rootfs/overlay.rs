//! Overlay mounts that are attached nowhere until a container's init puts them into its own mount namespace.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use super::pivot::{isolate_mounts, propagate};
use super::resolve::open_path;
use crate::error::{Context, Error, Result};
use crate::protocol::Overlay;
use crate::sys::mount::{FsContext, MountAttr, attach, attr, clone_tree, set_attr};

mod mapped;
mod volatile;

pub use mapped::can_map_ids;
pub(super) use mapped::{mapped_overlay, private_overlay};
use volatile::{synced_if_it_must_be, volatile_mark};

/// fsconfig(2) takes values of at most 255 bytes.
const MAX_VALUE: usize = 255;

/// Makes an overlay mount and attaches it nowhere: it is gone once the descriptor is closed.
///
/// A single layer without a writable one, of which overlayfs makes nothing, is shown by itself, read-only.
pub fn detached_overlay(overlay: &Overlay) -> Result<OwnedFd> {
    if let ([only], None) = (overlay.lower.as_slice(), &overlay.upper) {
        return show_readonly(only);
    }
    match layer_by_layer(overlay) {
        Err(Error::Io {
            errno: Errno::EINVAL, ..
        }) => by_thread(overlay),
        other => other,
    }
}

/// Mounts an overlay on what `target` refers to, in a mount namespace of the caller's own.
pub(crate) fn mount_overlay(overlay: &Overlay, target: BorrowedFd<'_>) -> Result<()> {
    if let ([only], None) = (overlay.lower.as_slice(), &overlay.upper) {
        return attach(show_readonly(only)?.as_fd(), target).call("attach layer");
    }
    match layer_by_layer(overlay) {
        Ok(mount) => attach(mount.as_fd(), target).call("attach overlay"),
        Err(Error::Io {
            errno: Errno::EINVAL, ..
        }) => in_one_string(overlay, target),
        Err(e) => Err(e),
    }
}

fn show_readonly(layer: &Path) -> Result<OwnedFd> {
    let mount = clone_tree(AT_FDCWD, layer, false).path("show layer", layer)?;
    propagate(mount.as_fd(), MsFlags::MS_PRIVATE).path("show layer", layer)?;
    let attrs = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    set_attr(mount.as_fd(), &attrs, false).path("show layer", layer)?;
    Ok(mount)
}

/// The way of Linux 6.8 and later: any number of layers, each by a call of its own.
fn layer_by_layer(overlay: &Overlay) -> Result<OwnedFd> {
    synced_if_it_must_be(overlay, |overlay| {
        let context = new_context(overlay)?;
        for lower in &overlay.lower {
            set(&context, "lowerdir+", lower)?;
        }
        let mark = volatile_mark(overlay).filter(|mark| !mark.exists());
        finish(&context, overlay).inspect_err(|_| {
            // a mount that came to nothing wrote nothing, and the next attempt would be refused
            if let Some(mark) = &mark {
                let _ = std::fs::remove_dir_all(mark);
            }
        })
    })
}

/// What overlayfs is given as `lowerdir=…` among the options of a mount; the others stay options.
pub(super) fn from_options(options: &[String]) -> Overlay {
    let mut overlay = Overlay::default();
    for option in options {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => overlay.lower = split_layers(layers),
            Some(("upperdir", path)) => overlay.upper = Some(path.into()),
            Some(("workdir", path)) => overlay.work = Some(path.into()),
            _ => overlay.options.push(option.clone()),
        }
    }
    overlay
}

/// Layers are separated by `:`; a backslash takes the meaning of what follows it.
fn split_layers(text: &str) -> Vec<PathBuf> {
    let mut layers = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => layers.push(String::new()),
            '\\' => layers.last_mut().into_iter().for_each(|l| l.extend(chars.next())),
            _ => layers.last_mut().into_iter().for_each(|l| l.push(c)),
        }
    }
    layers
        .into_iter()
        .filter(|l| !l.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// The way of older kernels, which attach what they mount: in a mount namespace that only a thread sees for a moment.
fn by_thread(overlay: &Overlay) -> Result<OwnedFd> {
    let mount = || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
            .call("unshare mount namespace of a thread")?;
        isolate_mounts(false)?;
        // any folder will do as the mount point, and the topmost layer is one
        let place = overlay.lower.first().map_or(Path::new("/"), |p| p);
        in_one_string(overlay, open_path(place)?.as_fd())?;
        clone_tree(AT_FDCWD, place, false).path("detach overlay from", place)
    };
    std::thread::scope(|scope| scope.spawn(mount).join()).unwrap_or(Err(Error::Ended {
        what: "mounting an overlay",
        status: "panicked".to_owned(),
    }))
}

fn new_context(overlay: &Overlay) -> Result<FsContext> {
    if overlay.lower.is_empty() {
        return Err(Error::invalid("rootfs.lower", "an overlay needs a lower layer"));
    }
    FsContext::open("overlay").call("fsopen overlay")
}

fn finish(context: &FsContext, overlay: &Overlay) -> Result<OwnedFd> {
    if let (Some(upper), Some(work)) = (&overlay.upper, &overlay.work) {
        set(context, "upperdir", upper)?;
        set(context, "workdir", work)?;
    }
    for option in &overlay.options {
        let done = match option.split_once('=') {
            Some((key, value)) => context.set(key, value),
            None => context.flag(option),
        };
        done.map_err(|errno| explain(context, Path::new(option), errno))?;
    }
    let first = overlay
        .upper
        .as_ref()
        .or(overlay.lower.first())
        .map_or(Path::new(""), |p| p);
    context.mount(0).map_err(|errno| explain(context, first, errno))
}

/// Sets a layer; its path may be of any length.
fn set(context: &FsContext, key: &'static str, path: &Path) -> Result<()> {
    let done = if path.as_os_str().len() > MAX_VALUE {
        let fd = open_path(path)?;
        context.set(key, fd_path(fd.as_fd()))
    } else {
        context.set(key, path)
    };
    done.map_err(|errno| explain(context, path, errno))
}

/// The kernel says in words what it dislikes about a layer; without words its number has to do.
fn explain(context: &FsContext, path: &Path, errno: Errno) -> Error {
    match context.messages().into_iter().next() {
        // of these two, callers know another way
        Some(words) if !matches!(errno, Errno::EINVAL | Errno::EIO) => Error::invalid(
            format!("overlay {}", path.display()),
            format!("{} ({words})", errno.desc()),
        ),
        _ => Error::io("mount overlay of", path, errno),
    }
}

pub(super) fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// mount(2) with all layers in one option string, at most a page of it. Layers go by descriptor, which keeps the string
/// short and needs no escaping of `:` and `,`.
fn in_one_string(overlay: &Overlay, target: BorrowedFd<'_>) -> Result<()> {
    synced_if_it_must_be(overlay, |overlay| mount_by_string(overlay, target))
}

fn mount_by_string(overlay: &Overlay, target: BorrowedFd<'_>) -> Result<()> {
    let mut open = Vec::new();
    let mut by_fd = |path: &Path| -> Result<String> {
        let fd = open_path(path)?;
        let text = fd_path(fd.as_fd());
        open.push(fd);
        Ok(text)
    };
    let lower = overlay
        .lower
        .iter()
        .map(|l| by_fd(l))
        .collect::<Result<Vec<_>>>()?
        .join(":");
    let mut data = format!("lowerdir={lower}");
    if let (Some(upper), Some(work)) = (&overlay.upper, &overlay.work) {
        data.push_str(&format!(",upperdir={},workdir={}", by_fd(upper)?, by_fd(work)?));
    }
    for option in &overlay.options {
        data.push(',');
        match option.strip_prefix("context=") {
            // its categories are separated by commas
            Some(label) => data.push_str(&format!("context=\"{label}\"")),
            None => data.push_str(option),
        }
    }
    let on = fd_path(target);
    nix::mount::mount(
        Some("overlay"),
        on.as_str(),
        Some("overlay"),
        MsFlags::empty(),
        Some(data.as_str()),
    )
    .path("mount overlay of", std::ffi::OsStr::from_bytes(lower.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::read_in_root;

    fn layers(count: usize) -> (tempfile::TempDir, Overlay) {
        let dir = tempfile::tempdir().unwrap();
        let mut overlay = Overlay::default();
        for i in 0..count {
            let layer = dir.path().join(format!("a,b:{i}"));
            std::fs::create_dir(&layer).unwrap();
            std::fs::write(layer.join(format!("file{i}")), format!("{i}")).unwrap();
            std::fs::write(layer.join("all"), format!("{i}")).unwrap();
            overlay.lower.push(layer);
        }
        (dir, overlay)
    }

    fn check(root: &OwnedFd, count: usize) {
        let read = |name: &str| read_in_root(root.as_fd(), Path::new(name), 10).unwrap();
        assert_eq!(read("/all"), b"0", "the topmost layer wins");
        assert_eq!(
            read(&format!("/file{}", count - 1)),
            (count - 1).to_string().into_bytes()
        );
    }

    #[test]
    fn one_layer_or_many_can_be_looked_into() {
        for count in [1, 2, 40] {
            let (_dir, overlay) = layers(count);
            check(&detached_overlay(&overlay).unwrap(), count);
        }
        assert!(detached_overlay(&Overlay::default()).is_err());
    }

    #[test]
    fn the_way_of_older_kernels_works_too() {
        let (_dir, overlay) = layers(40);
        check(&by_thread(&overlay).unwrap(), 40);
    }

    #[test]
    fn a_volatile_layer_is_marked_once_it_is_mounted_and_only_then() {
        let (dir, mut overlay) = layers(3);
        let [upper, work] = ["upper", "work"].map(|name| dir.path().join(name));
        for folder in [&upper, &work] {
            std::fs::create_dir(folder).unwrap();
        }
        overlay.upper = Some(upper);
        overlay.work = Some(work);
        overlay.options = vec![Overlay::VOLATILE.to_owned()];
        let mark = volatile_mark(&overlay).unwrap();
        let good = overlay.clone();
        // the kernel looks at this one after it has made the mark
        overlay.lower.push("/proc".into());
        overlay.options.push("metacopy=on".to_owned());
        overlay.options.push("verity=require".to_owned());
        assert!(layer_by_layer(&overlay).is_err());
        assert!(!mark.exists());
        drop(layer_by_layer(&good).unwrap());
        assert!(mark.exists());
        assert!(layer_by_layer(&good).is_err(), "never again");
        assert!(mark.exists());
    }

    #[test]
    fn a_missing_layer_is_named() {
        let (dir, mut overlay) = layers(2);
        overlay.lower.push(dir.path().join("gone"));
        let e = detached_overlay(&overlay).unwrap_err().to_string();
        assert!(e.contains("gone"), "{e}");
    }
}
