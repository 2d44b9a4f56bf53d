//! Overlay mounts that are attached nowhere until a container's init puts them into its own mount namespace.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::resolve::open_path;
use crate::error::{Context, Error, Result};
use crate::protocol::Overlay;
use crate::sys::mount::{FsContext, attach};

/// fsconfig(2) takes values of at most 255 bytes.
const MAX_VALUE: usize = 255;

/// Makes an overlay mount and attaches it nowhere: it is gone once the descriptor is closed.
pub fn detached_overlay(overlay: &Overlay) -> Result<OwnedFd> {
    let context = new_context(overlay)?;
    for lower in &overlay.lower {
        set(&context, "lowerdir+", lower)?;
    }
    finish(&context, overlay)
}

/// Mounts an overlay on what `target` refers to, also on kernels that can't take layers one by one (before 6.8).
pub(crate) fn mount_overlay(overlay: &Overlay, target: BorrowedFd<'_>) -> Result<()> {
    match detached_overlay(overlay) {
        Ok(mount) => attach(mount.as_fd(), target).call("attach overlay"),
        Err(Error::Io {
            errno: Errno::EINVAL, ..
        }) => mount_in_one_string(overlay, target),
        Err(e) => Err(e),
    }
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
        Some(words) if errno != Errno::EINVAL => Error::invalid(
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
fn mount_in_one_string(overlay: &Overlay, target: BorrowedFd<'_>) -> Result<()> {
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
        data.push_str(option);
    }
    debug_assert!(!data.as_bytes().contains(&0));
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
