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
