//! Network settings under `/proc/sys/net`, of the calling thread's network namespace.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};

const ROOT: &str = "/proc/sys/net";

/// Whether this kernel has IPv6 (it may be booted without).
pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("ipv6").is_dir()
}

/// The path of an interface's setting; `family` as `ipv4`.
fn of_interface(family: &str, interface: &str, key: &str) -> PathBuf {
    Path::new(ROOT)
        .join(family)
        .join("conf")
        .join(interface)
        .join(key)
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

/// Sets an interface's setting, where the kernel has it.
pub(crate) fn set_interface(family: &str, interface: &str, key: &str, value: &str) -> Result<()> {
    let path = of_interface(family, interface, key);
    match OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
    {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.io("write", &path),
    }
}

/// Makes an interface's IPv6 quiet and safe: its addresses usable at once (no duplicate address detection) unless
/// `dad`, and deaf to router advertisements, by which a pod could make itself the gateway of others.
pub(crate) fn tame_ipv6(interface: &str, dad: bool) -> Result<()> {
    set_interface("ipv6", interface, "accept_ra", "0")?;
    if !dad {
        set_interface("ipv6", interface, "accept_dad", "0")?;
    }
    Ok(())
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
        let listens = read(&of_interface("ipv6", interface, "accept_ra"))?.as_deref() == Some("1");
        if listens && !["all", "default", "lo"].contains(&interface) {
            set_interface("ipv6", interface, "accept_ra", "2")?;
        }
    }
    write(&forwarding, "1")
}
