//! Extended attributes of files, never of what a symlink leads to.

use std::ffi::CStr;
use std::path::Path;
use std::ptr;

use nix::NixPath;
use nix::errno::Errno;

use super::check;

/// A label of SELinux is shorter; what is longer isn't read.
const MAX_VALUE: usize = 4096;

/// Sets an attribute.
pub(crate) fn set(path: &Path, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    path.with_nix_path(|path| {
        // SAFETY: two NUL-terminated strings, and a value with its length, all of which live during the call.
        let done = unsafe {
            libc::lsetxattr(
                path.as_ptr(),
                name.as_ptr(),
                value.as_ptr().cast(),
                value.len(),
                0,
            )
        };
        check(done.into())
    })??;
    Ok(())
}

/// An attribute's value; None if there is no such attribute.
pub(crate) fn get(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; MAX_VALUE];
    let len = path.with_nix_path(|path| {
        // SAFETY: two NUL-terminated strings, and a buffer with its length.
        let len = unsafe {
            libc::lgetxattr(
                path.as_ptr(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        check(len as libc::c_long)
    })?;
    match len {
        Ok(len) => {
            value.truncate(usize::try_from(len).unwrap_or(0));
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets an attribute of this name to "1".
pub(crate) fn set_mark(path: &Path, name: &CStr) -> Result<(), Errno> {
    set(path, name, b"1")
}

/// Whether there is an attribute of this name.
pub(crate) fn has_mark(path: &Path, name: &CStr) -> bool {
    path.with_nix_path(|path| {
        // SAFETY: two NUL-terminated strings; size 0 asks for the length only.
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), ptr::null_mut(), 0) >= 0 }
    })
    .unwrap_or(false)
}
