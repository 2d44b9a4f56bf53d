//! Device nodes: the standard ones, those of `linux.devices`, the usual links, and /dev/console.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::libc::dev_t;
use nix::sys::stat::{Mode, SFlag, fchmodat, fstat, fstatat, major, makedev, minor, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::resolve::{ensure_file, ensure_folder, is_kind};
use crate::error::{Context, Error, Result};
use crate::sys::mount::{attach, clone_tree};

/// Name, major, minor; all are character devices with mode 0666.
const STANDARD: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A device's node or, in a user namespace, a mount of the host's node.
struct Node<'a> {
    path: &'a Path,
    kind: SFlag,
    major: u64,
    minor: u64,
    mode: u32,
    owner: (u32, u32),
}

/// Makes the standard nodes and links in /dev.
pub(super) fn make_standard(root: BorrowedFd<'_>, by_bind: bool) -> Result<()> {
    let dev = ensure_folder(root, Path::new("/dev"))?.fd;
    for (name, major, minor) in STANDARD {
        let node = Node {
            path: Path::new(name),
            kind: SFlag::S_IFCHR,
            major,
            minor,
            mode: 0o666,
            owner: (0, 0),
        };
        make(dev.as_fd(), &Path::new("/dev").join(name), &node, by_bind)?;
    }
    for (name, target) in LINKS {
        link(&dev, name, target)?;
    }
    if Path::new("/proc/kcore").exists() {
        link(&dev, "core", "/proc/kcore")?;
    }
    Ok(())
}

/// Makes the nodes of `linux.devices`.
pub(super) fn make_given(root: BorrowedFd<'_>, devices: &[LinuxDevice], by_bind: bool) -> Result<()> {
    for (i, device) in devices.iter().enumerate() {
        let field = |name: &str| format!("linux.devices[{i}].{name}");
        let path = device.path();
        let (Some(folder), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute()) else {
            return Err(Error::invalid(
                field("path"),
                format!("{path:?} is no absolute path of a file"),
            ));
        };
        // the container's console is its own terminal, if it has one
        if path == Path::new("/dev/console") || is_standard(path) {
            continue;
        }
        let kind = match device.typ() {
            LinuxDeviceType::B => SFlag::S_IFBLK,
            LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
            LinuxDeviceType::P => SFlag::S_IFIFO,
            LinuxDeviceType::A => return Err(Error::invalid(field("type"), "\"a\" is no type of a node")),
        };
        let number = |name: &str, n: i64| {
            u64::try_from(n).map_err(|_| Error::invalid(field(name), format!("{n} is no device number")))
        };
        let node = Node {
            path: Path::new(name),
            kind,
            major: number("major", device.major())?,
            minor: number("minor", device.minor())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
        };
        let folder = ensure_folder(root, folder)?.fd;
        make(folder.as_fd(), path, &node, by_bind && kind != SFlag::S_IFIFO)?;
    }
    Ok(())
}

fn is_standard(path: &Path) -> bool {
    path.parent() == Some(Path::new("/dev")) && STANDARD.iter().any(|(name, ..)| path.ends_with(name))
}

fn make(folder: BorrowedFd<'_>, path: &Path, node: &Node<'_>, by_bind: bool) -> Result<()> {
    let device = makedev(node.major, node.minor);
    if by_bind {
        let mount = clone_node(path, node.kind, device)?;
        let target = ensure_file(folder, node.path)?;
        return attach(mount.as_fd(), target.fd.as_fd()).path("bind device", path);
    }
    match mknodat(
        folder,
        node.path,
        node.kind,
        Mode::from_bits_truncate(node.mode),
        device,
    ) {
        Ok(()) => {}
        // an image or a mount may bring it along; anything else in its place goes
        Err(Errno::EEXIST) => {
            let there = fstatat(folder, node.path, AtFlags::AT_SYMLINK_NOFOLLOW).path("stat device", path)?;
            if there.st_mode & SFlag::S_IFMT.bits() == node.kind.bits() && there.st_rdev == device {
                return Ok(());
            }
            unlinkat(folder, node.path, UnlinkatFlags::NoRemoveDir).path("remove", path)?;
            mknodat(
                folder,
                node.path,
                node.kind,
                Mode::from_bits_truncate(node.mode),
                device,
            )
            .path("make device", path)?;
        }
        Err(e) => return Err(e).path("make device", path),
    }
    if node.owner != (0, 0) {
        let (uid, gid) = (Uid::from_raw(node.owner.0), Gid::from_raw(node.owner.1));
        fchownat(
            folder,
            node.path,
            Some(uid),
            Some(gid),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .path("set owner of device", path)?;
        // chown takes set-id bits away
        let mode = Mode::from_bits_truncate(node.mode);
        fchmodat(
            folder,
            node.path,
            mode,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .path("set mode of device", path)?;
    }
    Ok(())
}

/// A mount of the host's node of a device: that of the same path, else the one that the kernel itself has given it.
fn clone_node(path: &Path, kind: SFlag, device: dev_t) -> Result<OwnedFd> {
    let clone = |path: &Path| {
        let node = clone_tree(AT_FDCWD, path, false).ok()?;
        let st = fstat(&node).ok()?;
        (is_kind(&st, kind) && st.st_rdev == device).then_some(node)
    };
    if let Some(node) = clone(path) {
        return Ok(node);
    }
    let class = if kind == SFlag::S_IFBLK { "block" } else { "char" };
    let about = format!("/sys/dev/{class}/{}:{}/uevent", major(device), minor(device));
    let name = std::fs::read_to_string(about)
        .ok()
        .and_then(|text| Some(text.lines().find_map(|l| l.strip_prefix("DEVNAME="))?.to_owned()));
    name.and_then(|name| clone(&Path::new("/dev").join(name)))
        .ok_or_else(|| Error::io("find the host's node of device", path, Errno::ENODEV))
}

/// Makes a link; one that is there already stays, but a ptmx node of the image would open the wrong instance.
fn link(dev: &OwnedFd, name: &str, target: &str) -> Result<()> {
    let path = Path::new("/dev").join(name);
    match symlinkat(target, dev, name) {
        Err(Errno::EEXIST) if name == "ptmx" => {
            unlinkat(dev, name, UnlinkatFlags::NoRemoveDir).path("remove", &path)?;
            symlinkat(target, dev, name).path("link", &path)
        }
        Err(Errno::EEXIST) => Ok(()),
        other => other.path("link", &path),
    }
}

/// Mounts the slave of the container's terminal on /dev/console.
pub(super) fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<()> {
    let path = Path::new("/dev/console");
    let dev = ensure_folder(root, Path::new("/dev"))?.fd;
    // a symlink in its place would have the terminal cover another file (CVE-2025-52565)
    let flags = OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let target = match openat(
        &dev,
        "console",
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => openat(
            &dev,
            "console",
            flags | OFlag::O_EXCL,
            Mode::from_bits_truncate(0o600),
        )
        .path("create", path)?,
        Err(e) => return Err(e).path("open", path),
    };
    if is_kind(&fstat(&target).path("stat", path)?, SFlag::S_IFLNK) {
        return Err(Error::io("mount a terminal on the symlink", path, Errno::ELOOP));
    }
    let mount = clone_tree(slave, Path::new(""), false).path("bind terminal on", path)?;
    attach(mount.as_fd(), target.as_fd()).path("bind terminal on", path)
}

/// Opens the multiplexer of the container's own devpts.
pub(super) fn open_ptmx(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    super::open_in_root(root, Path::new("/dev/pts/ptmx"), OFlag::O_RDWR | OFlag::O_NOCTTY)
}
