//! Network settings under `/proc/sys/net`, of the calling thread's network namespace.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{IoContext, Result};
use crate::procfs;

const ROOT: &str = "/proc/sys/net";

/// Whether this kernel has IPv6 (it may be booted without).
pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("ipv6").is_dir()
}

/// Reads a setting, `None` if the kernel has no such.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).io("read", path),
    }
}

/// Writes a setting unless it has that value already (many are costly to write).
fn write(path: &Path, value: &str) -> Result<()> {
    if read(path)?.as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(path, value).io("write", path)
}

/// A folder of settings, held open: the way to it gets longer the more network namespaces there are, since all
/// of them have folders of the same names.
pub(crate) struct Folder {
    dir: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// That of one interface; `family` as `ipv4`. `None` if the kernel hasn't that family, or the interface no part
    /// in it.
    pub(crate) fn of_interface(family: &str, name: &str) -> Result<Option<Folder>> {
        Folder::open(&format!("{family}/conf/{name}"))
    }

    /// That which holds the folders of all interfaces.
    pub(crate) fn of_interfaces(family: &str) -> Result<Option<Folder>> {
        Folder::open(&format!("{family}/conf"))
    }

    fn open(below: &str) -> Result<Option<Folder>> {
        let path = Path::new(ROOT).join(below);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = procfs::root().io("open", Path::new("/proc"))?;
        match openat(root, &*format!("sys/net/{below}"), flags, Mode::empty()) {
            Ok(dir) => Ok(Some(Folder { dir, path })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno).io("open", &path),
        }
    }

    /// Writes a setting, where the kernel has it.
    pub(crate) fn set(&self, key: &str, value: &str) -> Result<()> {
        let path = self.path.join(key);
        match openat(&self.dir, key, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(file) => File::from(file).write_all(value.as_bytes()).io("write", &path),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno).io("open", &path),
        }
    }
}

/// Sets an interface's setting, where the kernel has it.
pub(crate) fn set_interface(family: &str, interface: &str, key: &str, value: &str) -> Result<()> {
    Folder::of_interface(family, interface)?.map_or(Ok(()), |settings| settings.set(key, value))
}

/// Makes an interface of the host deaf to router advertisements, by which a pod could make itself the host's
/// gateway, and its IPv6 addresses usable at once (no duplicate address detection).
pub(crate) fn tame_ipv6(interface: &str) -> Result<()> {
    let Some(settings) = Folder::of_interface("ipv6", interface)? else {
        return Ok(());
    };
    settings.set("accept_ra", "0")?;
    settings.set("accept_dad", "0")
}

/// Lets an interface have IPv6 addresses.
pub(crate) fn enable_ipv6(interface: &str) -> Result<()> {
    set_interface("ipv6", interface, "disable_ipv6", "0")
}

/// Lets the host forward IPv4.
pub(crate) fn forward_ipv4() -> Result<()> {
    write(&Path::new(ROOT).join("ipv4/ip_forward"), "1")
}

/// Lets the host forward IPv6. A host that got its own routes by router advertisements would lose
/// them with that, unless told to go on listening.
pub(crate) fn forward_ipv6() -> Result<()> {
    let forwarding = Path::new(ROOT).join("ipv6/conf/all/forwarding");
    if read(&forwarding)?.as_deref() == Some("1") {
        return Ok(());
    }
    let interfaces = Path::new(ROOT).join("ipv6/conf");
    for entry in fs::read_dir(&interfaces).io("list", &interfaces)? {
        let interface = entry.io("list", &interfaces)?.file_name();
        let Some(interface) = interface.to_str() else {
            continue;
        };
        let listens = read(&interfaces.join(interface).join("accept_ra"))?.as_deref() == Some("1");
        if listens && !["all", "default", "lo"].contains(&interface) {
            set_interface("ipv6", interface, "accept_ra", "2")?;
        }
    }
    write(&forwarding, "1")
}
