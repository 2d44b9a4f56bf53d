//! What only a long-lived process needs: ignored signals, memory given back.

use std::fs;
use std::ops::Range;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Has the process ignore a signal; a program that it executes must be given the default back.
pub(crate) fn ignore(which: Signal) -> Result<(), Errno> {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}

/// Returns free memory of the heap to the kernel.
pub(crate) fn trim_heap() {
    // SAFETY: it touches only memory that is free, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
}

/// What is larger is given back to the kernel as soon as it is free, in bytes: a network connection's buffer, and not the
/// pieces of a stream, which come and go by the thousand.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 320 * 1024;

/// How many heaps all threads share. Each keeps what its threads have needed once, and a daemon has threads that come and go.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Has the process keep little of what it has freed. To be called before it has threads.
pub fn keep_heap_small() {
    // Refused, it stays as it was. A libc without such settings keeps little anyway.
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes the allocator's settings, under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Takes the program's own pages out of the process's memory, most of which only its start has needed. Those that are used
/// again come back from the kernel's page cache at the cost of a page fault for each 64 KiB; the others the kernel may now have.
pub fn let_go_of_program() {
    // What can't be read or is refused stays.
    for range in unchanged_program().unwrap_or_default() {
        // SAFETY: the pages are those of the program's file, unchanged, which stays mapped: they read the same afterwards.
        unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
    }
}

/// Where the process has its program's file in memory as it is: neither writable nor ever written to, by relocations for one.
fn unchanged_program() -> Option<Vec<Range<usize>>> {
    let program = fs::read_link("/proc/self/exe").ok()?;
    let maps = fs::read_to_string("/proc/self/smaps").ok()?;
    Some(unchanged(&maps, program.to_str()?))
}

/// The read-only mappings of a file that has no changed page in them, by smaps of proc_pid_smaps(5).
fn unchanged(maps: &str, file: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut current = None;
    for line in maps.lines() {
        if let Some((range, access, path)) = mapping(line) {
            current = (matches!(access, "r-xp" | "r--p") && path == file).then_some(range);
        } else if line
            .strip_prefix("Anonymous:")
            .is_some_and(|size| size.trim() == "0 kB")
        {
            ranges.extend(current.take());
        }
    }
    ranges
}

/// A mapping's addresses, access and file, if the line is its head.
fn mapping(line: &str) -> Option<(Range<usize>, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let access = words.next()?;
    // offset, device and inode; a path with spaces is not ours, and is left
    let path = words.nth(3).unwrap_or_default();
    Some((address(begin)?..address(end)?, access, path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

    use super::*;

    #[test]
    fn only_what_the_file_still_has_is_let_go() {
        let maps = "\
1000-5000 r--p 00000000 fe:00 7    /bin/program
Rss:                   8 kB
Anonymous:             0 kB
5000-9000 r-xp 00004000 fe:00 7    /bin/program
Anonymous:             0 kB
9000-a000 r--p 00008000 fe:00 7    /bin/program
Anonymous:             4 kB
a000-b000 rw-p 00009000 fe:00 7    /bin/program
Anonymous:             0 kB
b000-c000 r-xp 00000000 fe:00 8    /lib/other.so
Anonymous:             0 kB
c000-d000 rw-p 00000000 00:00 0
Anonymous:             0 kB
";
        assert_eq!(unchanged(maps, "/bin/program"), [0x1000..0x5000, 0x5000..0x9000]);
    }

    #[test]
    fn the_program_goes_on_with_less() {
        /// Of the program's code, in KiB.
        fn resident() -> u64 {
            let program = fs::read_link("/proc/self/exe").unwrap();
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let ours = maps.lines().skip_while(|line| {
                mapping(line)
                    .is_none_or(|(_, access, path)| access != "r-xp" || path != program.to_str().unwrap())
            });
            let sizes = ours.filter_map(|line| line.strip_prefix("Rss:"));
            let first = sizes.into_iter().next().unwrap();
            first.trim().trim_end_matches(" kB").parse().unwrap()
        }
        let before = resident();
        let_go_of_program();
        let after = resident();
        assert!(after < before, "{after} of {before} KiB");
    }
}
