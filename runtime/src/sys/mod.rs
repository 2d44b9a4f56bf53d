//! The crate's only unsafe code: system calls that no safe wrapper exists for, each behind a safe function.
#![allow(unsafe_code)]

pub(crate) mod birth;
pub(crate) mod bpf;
pub(crate) mod cred;
pub(crate) mod daemon;
pub(crate) mod fd;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod term;
pub(crate) mod xattr;

use nix::errno::Errno;

/// Turns the return value of a raw system call into a result.
fn check(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}
