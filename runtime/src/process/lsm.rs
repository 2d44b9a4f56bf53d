//! AppArmor profiles and SELinux labels: told to the kernel long before the program is executed, for its execve.
//!
//! They are written through the host's procfs, opened before the container's file systems are in sight, so that nothing
//! in a container can pretend to be the file that is written to; processes that the caller clones inherit what is set.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use oci_spec::runtime::Process;

use crate::error::{Context, Error, Result};

/// Where AppArmor takes what the next execve enters; where other modules are about, it has a folder of its own.
const APPARMOR: [&str; 2] = ["thread-self/attr/apparmor/exec", "thread-self/attr/exec"];

const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";

const APPARMOR_PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

const SELINUX: &str = "thread-self/attr/exec";

const SELINUX_ENABLED: &str = "/sys/fs/selinux/enforce";

/// Refuses labels that can't be had on this host, before anything is made.
pub(crate) fn check(field: &str, process: &Process) -> Result<()> {
    if let Some(profile) = given(process.apparmor_profile()).filter(|profile| *profile != "unconfined") {
        let field = format!("{field}.apparmorProfile");
        if !apparmor_is_enabled() {
            return Err(Error::invalid(
                field,
                format!("{profile:?}: AppArmor is not enabled on this host"),
            ));
        }
        // not everyone may read the list; the kernel then tells at the start
        let loaded = std::fs::read_to_string(APPARMOR_PROFILES);
        if loaded.is_ok_and(|all| !all.lines().any(|line| profile_name(line) == profile)) {
            let reason = format!("{profile:?}: no such profile is loaded on this host");
            return Err(Error::invalid(field, reason));
        }
    }
    match given(process.selinux_label()) {
        Some(label) if !is_selinux() => Err(Error::invalid(
            format!("{field}.selinuxLabel"),
            format!("{label:?}: SELinux is not enabled on this host"),
        )),
        _ => Ok(()),
    }
}

/// Whether SELinux is on.
pub(crate) fn is_selinux() -> bool {
    Path::new(SELINUX_ENABLED).exists()
}

/// `name (mode)`; a name may hold blanks and brackets.
fn profile_name(line: &str) -> &str {
    line.rsplit_once(" (").map_or(line, |(name, _)| name)
}

fn apparmor_is_enabled() -> bool {
    std::fs::read_to_string(APPARMOR_ENABLED).is_ok_and(|text| text.starts_with('Y'))
}

/// Has the caller's next execve, or that of its children, enter the process's profile and label. `proc` is the host's
/// procfs.
pub(crate) fn set_for_exec(proc: BorrowedFd<'_>, field: &str, process: &Process) -> Result<()> {
    if let Some(profile) = given(process.apparmor_profile()) {
        apparmor(proc, profile).map_err(|e| refine(&e, &format!("{field}.apparmorProfile"), profile))?;
    }
    if let Some(label) = given(process.selinux_label()) {
        let field = format!("{field}.selinuxLabel");
        write(proc, SELINUX, label).map_err(|e| refine(&e, &field, label))?;
    }
    Ok(())
}

fn given(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

fn apparmor(proc: BorrowedFd<'_>, profile: &str) -> Result<()> {
    // where nothing confines, nothing need be said
    if profile == "unconfined" && !apparmor_is_enabled() {
        return Ok(());
    }
    let text = format!("exec {profile}");
    match write(proc, APPARMOR[0], &text) {
        Err(e) if e.errno() == Some(Errno::ENOENT) && !has(proc, APPARMOR[0]) => {
            write(proc, APPARMOR[1], &text)
        }
        other => other,
    }
}

fn has(proc: BorrowedFd<'_>, path: &str) -> bool {
    openat(proc, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).is_ok()
}

fn write(proc: BorrowedFd<'_>, path: &str, text: &str) -> Result<()> {
    let file = openat(proc, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).path("open", path)?;
    nix::unistd::write(&file, text.as_bytes()).path("write", path)?;
    Ok(())
}

/// The kernel's number in the words of who asked.
fn refine(error: &Error, field: &str, value: &str) -> Error {
    let reason = match error.errno() {
        Some(Errno::ENOENT) => "no such profile is loaded on this host".to_owned(),
        Some(Errno::EINVAL) => "the kernel's policy doesn't know it".to_owned(),
        _ => error.to_string(),
    };
    Error::invalid(field, format!("{value:?}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::open_proc;
    use std::os::fd::AsFd;

    fn process(key: &str, label: &str) -> Process {
        let mut process = serde_json::json!({"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        process[key] = label.into();
        serde_json::from_value(process).unwrap()
    }

    #[test]
    fn nothing_asked_for_needs_no_module() {
        let proc = open_proc().unwrap();
        for key in ["apparmorProfile", "selinuxLabel"] {
            check("process", &process(key, "")).unwrap();
            set_for_exec(proc.as_fd(), "process", &process(key, "")).unwrap();
        }
        check("process", &process("apparmorProfile", "unconfined")).unwrap();
    }

    #[test]
    fn a_protection_that_cannot_be_had_is_an_error() {
        for key in ["apparmorProfile", "selinuxLabel"] {
            let e = check("process", &process(key, "no-such:thing:x:s0"))
                .unwrap_err()
                .to_string();
            assert!(
                e.starts_with(&format!("process.{key}: \"no-such:thing:x:s0\": ")),
                "{e}"
            );
        }
    }

    #[test]
    fn names_of_profiles_may_hold_anything() {
        assert_eq!(profile_name("docker-default (enforce)"), "docker-default");
        assert_eq!(
            profile_name("/bin/x (deleted) y (complain)"),
            "/bin/x (deleted) y"
        );
    }
}
