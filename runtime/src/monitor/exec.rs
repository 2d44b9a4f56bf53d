//! Killing an exec with all that it has started.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Looks at the process table while new descendants are found; each look stops all that were known, so that only a
/// fork that was already under way can add one.
const LOOKS: usize = 8;

/// SIGKILLs a process, its descendants, and all of its session.
///
/// What has left the session and lost its parent before can't be told from the container's other processes.
pub(crate) fn kill_tree(root: i32) {
    let mut known = BTreeSet::new();
    for _ in 0..LOOKS {
        let found: Vec<i32> = members(root, &process_table())
            .difference(&known)
            .copied()
            .collect();
        if found.is_empty() {
            break;
        }
        send(found.iter(), Signal::SIGSTOP);
        known.extend(found);
    }
    send(known.iter(), Signal::SIGKILL);
}

fn send<'a>(pids: impl Iterator<Item = &'a i32>, signal: Signal) {
    for pid in pids {
        // It may be gone; that is what is wanted.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: i32,
    session: i32,
}

fn process_table() -> BTreeMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            Some((
                pid,
                parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
            ))
        })
        .collect()
}

/// Fields 4 and 6 of `/proc/<pid>/stat` (proc_pid_stat(5)); the name before them may hold anything.
fn parse_stat(stat: &str) -> Option<Process> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { parent, session })
}

fn members(root: i32, table: &BTreeMap<i32, Process>) -> BTreeSet<i32> {
    let mut found: BTreeSet<i32> = table
        .iter()
        .filter(|(_, p)| p.session == root)
        .map(|(pid, _)| *pid)
        .collect();
    if table.contains_key(&root) {
        found.insert(root);
    }
    loop {
        let before = found.len();
        let children = table
            .iter()
            .filter(|(_, p)| found.contains(&p.parent))
            .map(|(pid, _)| *pid);
        let children: Vec<i32> = children.collect();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_brackets_are_no_trap() {
        assert_eq!(
            parse_stat("7 (a) b (c) S 3 7 5 0 -1"),
            Some(Process {
                parent: 3,
                session: 5
            })
        );
        assert_eq!(parse_stat("7 (a"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn descendants_and_the_session_are_members_and_others_are_not() {
        let process = |parent, session| Process { parent, session };
        let table = BTreeMap::from([
            (1, process(0, 1)),
            (10, process(1, 10)),
            (11, process(10, 10)),
            (12, process(11, 12)),
            (13, process(1, 10)),
            (20, process(1, 20)),
        ]);
        assert_eq!(members(10, &table), BTreeSet::from([10, 11, 12, 13]));
        assert_eq!(members(99, &table), BTreeSet::new());
    }
}
