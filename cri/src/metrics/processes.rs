//! What only /proc tells of a container's processes.

use std::fs;
use std::io::{BufRead as _, BufReader};

use pintle_runtime::cgroup::Handle;

/// What the processes of a container hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Processes {
    /// How many there are.
    pub(super) count: u64,
    /// Their open file descriptors.
    pub(super) descriptors: u64,
    /// Those of them that are sockets.
    pub(super) sockets: u64,
}

/// Looks at the processes of a cgroup; those that end meanwhile count for nothing. None where there is no such group.
pub(super) fn look(cgroup: &str) -> Option<Processes> {
    let pids = Handle::new(cgroup).and_then(|handle| handle.processes()).ok()?;
    let mut all = Processes {
        count: pids.len() as u64,
        ..Processes::default()
    };
    for pid in pids {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            all.descriptors += 1;
            let target = fs::read_link(entry.path()).unwrap_or_default();
            all.sockets += u64::from(target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        }
    }
    Some(all)
}

/// A process's soft limits that aren't `unlimited`, as `max_open_files` (proc_pid_limits(5)).
pub(super) fn soft_limits(pid: i32) -> Vec<(String, u64)> {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/limits")) else {
        return Vec::new();
    };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.filter_map(|line| soft_limit(&line)).collect()
}

/// `Max open files            1024                 1048576              files`; the name is padded to 26.
fn soft_limit(line: &str) -> Option<(String, u64)> {
    let (name, values) = line.split_at_checked(26)?;
    let value = values.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name.trim().to_lowercase().replace(' ', "_"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_by_name() {
        let line = "Max open files            1024                 1048576              files     ";
        assert_eq!(soft_limit(line), Some(("max_open_files".to_owned(), 1024)));
        let line = "Max cpu time              unlimited            unlimited            seconds   ";
        assert_eq!(soft_limit(line), None);
        assert_eq!(
            soft_limit("Limit                     Soft Limit           Hard Limit"),
            None
        );
        let own = soft_limits(std::process::id().cast_signed());
        assert!(
            own.iter()
                .any(|(name, value)| name == "max_open_files" && *value > 0)
        );
    }
}
