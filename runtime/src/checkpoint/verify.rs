//! What was restored is compared with what the container's specification allows, before any of it runs.
//!
//! Images say which user, which capabilities and which mounts a process has, and whoever made them may have written
//! anything there. (The seccomp filter of a process is taken from its images, too; that there is one is checked, and what
//! it lets pass is not.)

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::{is_external, refused};
use crate::cgroup;
use crate::error::{Context, Kind, Result};
use crate::namespace::Plan;
use crate::process::Sets;

/// `CAP_SYS_ADMIN`, with which a container may have mounted what it likes.
const SYS_ADMIN: u64 = 1 << 21;

/// What is compared.
pub(super) struct Expected<'a> {
    pub(super) spec: &'a Spec,
    pub(super) plan: &'a Plan,
    pub(super) group: &'a cgroup::Handle,
    /// There is a seccomp filter to be had.
    pub(super) filtered: bool,
    /// criu itself, which is in the group as long as it restores.
    pub(super) criu: Pid,
}

/// Every process in the group is in the container's namespaces, and holds no more than the specification's own would.
///
/// # Errors
/// Names what is too much.
pub(super) fn processes(expected: &Expected<'_>, init: Pid) -> Result<()> {
    let all = expected.group.processes()?;
    if !all.contains(&init) {
        return Err(too_much("a place outside its cgroup"));
    }
    for pid in all.into_iter().filter(|pid| *pid != expected.criu) {
        namespaces(expected.plan, pid)?;
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        status(expected, &fs::read_to_string(&path).path("read", &path)?)?;
    }
    Ok(())
}

/// A process that shares what its container is to have for itself would be on the host.
fn namespaces(plan: &Plan, pid: Pid) -> Result<()> {
    let of = |who: &str, name: &str| {
        let path = format!("/proc/{who}/ns/{name}");
        fs::metadata(&path).path("stat", &path).map(|about| about.ino())
    };
    for (kind, name) in KINDS {
        if !plan.has(kind) {
            continue;
        }
        let its = of(&pid.to_string(), name)?;
        let fits = match plan.path(kind) {
            Some(path) => fs::metadata(path).path("stat", path)?.ino() == its,
            None => of("self", name)? != its,
        };
        if !fits {
            return Err(too_much(&format!(
                "another {name} namespace than the container's"
            )));
        }
    }
    Ok(())
}

fn status(expected: &Expected<'_>, text: &str) -> Result<()> {
    let process = expected.spec.process().as_ref();
    let field = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim)
    };
    let allowed = allowed(expected.spec);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let held = field(set).and_then(|text| u64::from_str_radix(text, 16).ok());
        if held.is_none_or(|held| held & !allowed != 0) {
            return Err(too_much("capabilities"));
        }
    }
    let effective = field("Uid").and_then(|ids| ids.split_whitespace().nth(1));
    if process.is_some_and(|p| p.user().uid() != 0) && effective == Some("0") {
        return Err(too_much("root's user id"));
    }
    if process.is_some_and(|p| p.no_new_privileges() == Some(true)) && field("NoNewPrivs") != Some("1") {
        return Err(too_much("the right to gain privileges (no_new_privs is off)"));
    }
    if expected.filtered && field("Seccomp") != Some("2") {
        return Err(too_much("system calls without a seccomp filter"));
    }
    Ok(())
}

const KINDS: [(LinuxNamespaceType, &str); 6] = [
    (LinuxNamespaceType::Mount, "mnt"),
    (LinuxNamespaceType::Pid, "pid"),
    (LinuxNamespaceType::Network, "net"),
    (LinuxNamespaceType::Ipc, "ipc"),
    (LinuxNamespaceType::Uts, "uts"),
    (LinuxNamespaceType::Cgroup, "cgroup"),
];

fn allowed(spec: &Spec) -> u64 {
    Sets::read(spec.process().as_ref().and_then(|p| p.capabilities().as_ref())).bounding()
}

/// A line of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)).
struct Line<'a> {
    point: PathBuf,
    options: &'a str,
    kind: &'a str,
}

/// What the init sees mounted is what the specification has, and no more writable.
///
/// # Errors
/// Names the mount.
pub(super) fn mounts(spec: &Spec, init: Pid) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{init}/mountinfo"));
    let table = fs::read_to_string(&path).path("read", &path)?;
    let lines: Vec<Line<'_>> = table.lines().filter_map(parse).collect();
    let list = spec.mounts().as_deref().unwrap_or_default();
    let read_only = |line: &Line<'_>| line.options.split(',').any(|option| option == "ro");
    for mount in list.iter().filter(|mount| is_external(mount)) {
        let found = lines.iter().rev().find(|line| same(&line.point, mount, init));
        match found {
            None => return Err(differs(mount.destination(), "is missing")),
            Some(line) if asks_read_only(mount) && !read_only(line) => {
                return Err(differs(mount.destination(), "is writable"));
            }
            Some(_) => {}
        }
    }
    let root_read_only = spec
        .root()
        .as_ref()
        .is_some_and(|root| root.readonly() == Some(true));
    let root = lines.iter().find(|line| line.point == Path::new("/"));
    if root_read_only && !root.is_some_and(read_only) {
        return Err(differs(Path::new("/"), "is writable"));
    }
    if allowed(spec) & SYS_ADMIN != 0 {
        return Ok(());
    }
    strangers(spec, &lines)
}

/// Kernel file systems that were in no specification would show more of the host.
fn strangers(spec: &Spec, lines: &[Line<'_>]) -> Result<()> {
    let list = spec.mounts().as_deref().unwrap_or_default();
    for line in lines {
        let known = matches!(
            line.kind,
            "overlay" | "tmpfs" | "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2"
        );
        let below = |mount: &Mount| line.point.starts_with(mount.destination());
        let bound = list.iter().any(|mount| is_external(mount) && below(mount));
        // a masked file is covered by the host's /dev/null
        let masked = spec
            .linux()
            .as_ref()
            .and_then(|l| l.masked_paths().as_ref())
            .is_some_and(|paths| paths.iter().any(|path| Path::new(path) == line.point));
        let root = line.point == Path::new("/");
        if !(known || bound || masked || root) {
            return Err(differs(&line.point, "is not in the request"));
        }
        let writable = !line.options.split(',').any(|option| option == "ro");
        let asked = |kind: &str| {
            list.iter()
                .any(|m| m.typ().as_deref() == Some(kind) && !asks_read_only(m) && below(m))
        };
        if line.kind == "sysfs" && writable && !asked("sysfs") {
            return Err(differs(&line.point, "is writable"));
        }
    }
    Ok(())
}

fn asks_read_only(mount: &Mount) -> bool {
    // the last word counts, as in mount(8)
    let list = mount.options().as_deref().unwrap_or_default();
    list.iter()
        .rfind(|o| matches!(o.as_str(), "ro" | "rro" | "rw" | "rrw"))
        .is_some_and(|o| o.starts_with("ro") || o == "rro")
}

/// Whether a mount lies at a specification's path, through symlinks in the container's root.
fn same(point: &Path, mount: &Mount, init: Pid) -> bool {
    if point.components().eq(mount.destination().components()) {
        return true;
    }
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let root = crate::rootfs::open_path(Path::new(&format!("/proc/{init}/root")));
    root.and_then(|root| {
        crate::rootfs::open_in_root(root.as_fd(), mount.destination(), nix::fcntl::OFlag::O_PATH)
    })
    .ok()
    .and_then(|fd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok())
    .is_some_and(|path| path == point)
}

fn parse(line: &str) -> Option<Line<'_>> {
    let (fields, rest) = line.split_once(" - ")?;
    let mut fields = fields.split(' ').skip(4);
    Some(Line {
        point: unescaped(fields.next()?),
        options: fields.next()?,
        kind: rest.split(' ').next()?,
    })
}

/// `\040` and the like.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = text
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(out).into()
}

fn too_much(what: &str) -> crate::Error {
    refused(
        Kind::InvalidArgument,
        format!("the checkpoint's processes hold more than the request grants: {what}"),
    )
}

fn differs(point: &Path, how: &str) -> crate::Error {
    refused(
        Kind::InvalidArgument,
        format!(
            "the checkpoint does not fit the request: the mount {} {how}",
            point.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_mount_table_are_read() {
        let line = parse("36 35 98:0 /x /mnt\\0402 ro,noatime master:1 - ext3 /dev/root rw,errors=continue")
            .unwrap();
        assert_eq!(line.point, Path::new("/mnt 2"));
        assert_eq!((line.options, line.kind), ("ro,noatime", "ext3"));
        assert!(parse("nonsense").is_none());
    }

    #[test]
    fn the_last_word_on_writing_counts() {
        let mount = |options: &[&str]| {
            let mut mount = Mount::default();
            mount.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
            mount
        };
        assert!(asks_read_only(&mount(&["rbind", "ro"])));
        assert!(asks_read_only(&mount(&["rbind", "rro"])));
        assert!(!asks_read_only(&mount(&["ro", "rw"])));
        assert!(!asks_read_only(&mount(&[])));
    }

    #[test]
    fn what_is_not_in_the_request_is_refused() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.0.2","mounts":[{"destination":"/data","type":"bind","source":"/x","options":["rbind"]},
                {"destination":"/sys","type":"sysfs","source":"sysfs","options":["ro"]}],
                "linux":{"maskedPaths":["/proc/kcore"]}}"#,
        )
        .unwrap();
        let check = |table: &str| strangers(&spec, &table.lines().filter_map(parse).collect::<Vec<_>>());
        check(
            "1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /data rw - ext4 /dev/vda rw\n3 1 0:3 / /sys ro - sysfs s rw\n\
             4 1 0:4 /null /proc/kcore rw - devtmpfs d rw",
        )
        .unwrap();
        for bad in [
            "1 0 0:1 / /host rw - ext4 /dev/vda rw",
            "1 0 0:1 / /d rw - debugfs d rw",
            "1 0 0:1 / /sys rw - sysfs s rw",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
