//! A child's number, known to whoever forked its maker, even if the maker is killed before it can tell.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

/// A page shared with the children forked from here on, into which the kernel writes a number before clone3(2) returns.
#[derive(Debug)]
pub(crate) struct Birth(NonNull<AtomicI32>);

// SAFETY: the page is a mapping of its own, and only accessed as the atomic at its beginning.
unsafe impl Send for Birth {}
// SAFETY: as above.
unsafe impl Sync for Birth {}

impl Birth {
    pub(crate) fn new() -> Result<Self, Errno> {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping where the kernel likes it touches nothing of ours.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicI32>(), access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // A page of zeros: no number yet.
        NonNull::new(page.cast()).map(Self).ok_or(Errno::EFAULT)
    }

    /// The address to be given to clone3(2).
    pub(super) fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The child, once there is one.
    pub(crate) fn pid(&self) -> Option<Pid> {
        // SAFETY: the mapping lives as long as this, and a page is aligned for any integer.
        let number = unsafe { self.0.as_ref() }.load(Ordering::SeqCst);
        (number > 0).then(|| Pid::from_raw(number))
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicI32>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Forked, clone, exit_now, fork, wait};

    #[test]
    fn a_grandchild_is_known_whose_maker_never_told() {
        let birth = Birth::new().unwrap();
        assert_eq!(birth.pid(), None);
        let maker = match fork().unwrap() {
            Forked::Parent(maker) => maker,
            // a sibling, for which the test's process can wait
            Forked::Child(_child) => match clone(0, true, None, Some(&birth)) {
                Ok(Forked::Child(_grandchild)) => exit_now(7),
                _ => exit_now(0),
            },
        };
        wait(maker).unwrap();
        let child = birth.pid().unwrap();
        let status = nix::sys::wait::waitpid(child, None).unwrap();
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 7));
    }
}
