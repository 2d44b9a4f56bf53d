//! What holders of a terminal's master may want of it.

use std::os::fd::BorrowedFd;

use crate::error::{Context, Result};
use crate::sys::term::set_size;

/// Sets the size of a terminal in characters, `width` columns and `height` rows; the kernel tells the processes in its
/// foreground (SIGWINCH) if it has changed. `fd` may be either end.
///
/// # Errors
/// It is no terminal.
pub fn resize(fd: BorrowedFd<'_>, width: u16, height: u16) -> Result<()> {
    set_size(fd, height, width).call("set terminal size")
}
