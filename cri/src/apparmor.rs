//! The AppArmor profile that `RuntimeDefault` stands for.
//!
//! The kernel takes compiled policies only, and `apparmor_parser` is their only compiler. It is run once, when the daemon
//! starts and the profile isn't loaded; never on the path of a pod.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, IoContext as _, Result};
use crate::spec::{APPARMOR_DEFAULT, gather};

const PARSER: &str = "apparmor_parser";

/// Variables of the distribution's policies, and what its profiles have in common.
const TUNABLES: &str = "/etc/apparmor.d/tunables/global";
const BASE: &str = "/etc/apparmor.d/abstractions/base";

/// What a container must not do even as root: mount, write to the kernel's settings, or reach into other processes.
/// Everything else is the business of capabilities, namespaces and seccomp.
const RULES: &str = r"
  network,
  capability,
  file,
  umount,

  # the host may signal what runs in here; containers may signal and trace their like
  signal (receive) peer=unconfined,
  signal (send, receive) peer=@{profile_name},
  ptrace (trace, read, tracedby, readby) peer=@{profile_name},

  deny mount,

  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
";

/// Loads the profile unless it is loaded.
///
/// # Errors
/// [`Error::Io`]: the list of profiles can't be read, or the compiler isn't there or refuses.
pub fn load_default() -> Result<()> {
    if gather::apparmor_profiles()?
        .iter()
        .any(|name| name == APPARMOR_DEFAULT)
    {
        return Ok(());
    }
    let mut parser = Command::new(PARSER)
        // replace what is there, and keep no cache on disk
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .io("execute", PARSER)?;
    let text = profile(Path::new(TUNABLES).exists(), Path::new(BASE).exists());
    // the pipe holds all of it, so that a parser which writes first can't block
    let written = parser
        .stdin
        .take()
        .map_or(Ok(()), |mut pipe| pipe.write_all(text.as_bytes()));
    let ended = parser.wait_with_output().io("wait for", PARSER)?;
    if ended.status.success() {
        return written.io("write to", PARSER);
    }
    let words = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(Error::Io {
        verb: "load a profile with",
        path: PARSER.into(),
        source: io::Error::other(words),
    })
}

/// The profile as `apparmor_parser` reads it.
fn profile(tunables: bool, base: bool) -> String {
    let variables = if tunables {
        "#include <tunables/global>"
    } else {
        "@{PROC}=/proc/"
    };
    let common = if base {
        "  #include <abstractions/base>\n"
    } else {
        ""
    };
    // `attach_disconnected`: files that come from another mount namespace have no path of their own
    format!(
        "{variables}\n\nprofile {APPARMOR_DEFAULT} flags=(attach_disconnected,mediate_deleted) {{\n{common}{}}}\n",
        RULES.replace("@{profile_name}", APPARMOR_DEFAULT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_stands_by_itself_or_on_the_distribution() {
        let alone = profile(false, false);
        assert!(alone.starts_with("@{PROC}=/proc/\n") && !alone.contains("#include"));
        assert!(alone.contains(&format!("profile {APPARMOR_DEFAULT} flags=")));
        assert!(alone.contains(&format!("peer={APPARMOR_DEFAULT},")) && !alone.contains("profile_name"));
        assert!(alone.len() < 4096, "it fits into a pipe");
        let usual = profile(true, true);
        assert!(
            usual.contains("#include <tunables/global>") && usual.contains("#include <abstractions/base>")
        );
    }
}
