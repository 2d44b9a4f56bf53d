//! What only a long-lived process needs: ignored signals, memory given back.

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
