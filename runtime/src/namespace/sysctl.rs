//! Kernel parameters: only those that belong to a namespace, written only to a procfs.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use oci_spec::runtime::LinuxNamespaceType;

use crate::error::{Error, Result};
use crate::rootfs::open_without_symlinks;

/// Parameters of the ipc namespace under `kernel.`.
const IPC: [&str; 12] = [
    "kernel.auto_msgmni",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg_next_id",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
];

/// Refuses what would change the host: a parameter of no namespace, or of one that isn't the container's own.
pub(crate) fn check(name: &str, has: impl Fn(LinuxNamespaceType) -> bool) -> Result<()> {
    let dotted = name.replace('/', ".");
    if dotted == "kernel.hostname" {
        let reason = "is not allowed, as it conflicts with hostname";
        return Err(Error::invalid(format!("sysctl {name:?}"), reason));
    }
    let kind = if dotted.starts_with("net.") {
        LinuxNamespaceType::Network
    } else if dotted.starts_with("fs.mqueue.") || IPC.contains(&dotted.as_str()) {
        LinuxNamespaceType::Ipc
    } else if dotted == "kernel.domainname" {
        LinuxNamespaceType::Uts
    } else if dotted.starts_with("user.") {
        LinuxNamespaceType::User
    } else {
        return Err(Error::invalid(
            format!("sysctl {name:?}"),
            "is not in a separate kernel namespace",
        ));
    };
    if !has(kind) {
        let reason = format!("is not allowed without a {kind} namespace of its own").to_lowercase();
        return Err(Error::invalid(format!("sysctl {name:?}"), reason));
    }
    Ok(())
}

/// Writes a parameter through `proc`, a descriptor of a procfs. Which namespace it is of, the kernel tells by the
/// caller.
pub(crate) fn write(proc: BorrowedFd<'_>, name: &str, value: &str) -> Result<()> {
    let path = path_of(name)?;
    let file = open_without_symlinks(proc, &path, OFlag::O_WRONLY)?;
    nix::unistd::write(&file, value.as_bytes()).map_err(|errno| Error::Write {
        path: Path::new("/proc").join(path),
        value: value.to_owned(),
        errno,
    })?;
    Ok(())
}

/// `net.ipv4.ip_forward` and `net/ipv4/ip_forward` are the same; in the second form a name may hold dots, in the first a
/// dot within a name is written as a slash (sysctl(8)).
fn path_of(name: &str) -> Result<PathBuf> {
    let slashes_first = name.find(['.', '/']).is_some_and(|i| name.as_bytes()[i] == b'/');
    let path: String = match slashes_first {
        true => name.to_owned(),
        false => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    if path.is_empty() || path.contains('\0') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::invalid(
            format!("sysctl {name:?}"),
            "is no name of a kernel parameter",
        ));
    }
    Ok(Path::new("sys").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_own_namespaces_pass() {
        let net = |kind| kind == LinuxNamespaceType::Network;
        assert!(check("net.ipv4.ip_forward", net).is_ok());
        assert!(check("kernel.shmmax", net).is_err());
        assert!(check("kernel.domainname", |_| true).is_ok());
        for refused in ["kernel.hostname", "kernel.panic"] {
            assert!(check(refused, |_| true).is_err(), "{refused}");
        }
        assert!(check("vm.swappiness", |_| true).is_err());
    }

    #[test]
    fn names_become_paths_and_do_not_climb() {
        assert_eq!(
            path_of("net.ipv4.conf.eth0/1.x").unwrap(),
            Path::new("sys/net/ipv4/conf/eth0.1/x")
        );
        assert_eq!(
            path_of("net/ipv4/conf/eth0.1/x").unwrap(),
            Path::new("sys/net/ipv4/conf/eth0.1/x")
        );
        for bad in ["", "net/../../x", "net...x", "net.ipv4.//.//.x"] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
    }
}
