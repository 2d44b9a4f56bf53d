//! File descriptors: passing them over sockets, moving them onto 0 to 2, closing all the others.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The most descriptors that one message may carry.
pub(crate) const MAX_FDS: usize = 8;

/// Sends `data` with `fds` attached to its first byte; returns how many bytes went out.
pub(crate) fn send_with_fds(socket: BorrowedFd<'_>, data: &[u8], fds: &[RawFd]) -> Result<usize, Errno> {
    let iov = [IoSlice::new(data)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    retry(|| sendmsg::<UnixAddr>(socket.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None))
}

/// Receives into `buf`; the descriptors that came along are close-on-exec and owned by the caller.
pub(crate) fn recv_with_fds(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    flags: MsgFlags,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buf)];
    let message = loop {
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just installed these descriptors for this message; nobody else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// Makes `fd` the process's descriptor number `target` (0 to 2), without close-on-exec.
pub(crate) fn install(fd: BorrowedFd<'_>, target: RawFd) -> Result<(), Errno> {
    if fd.as_raw_fd() == target {
        // SAFETY: F_SETFD on a descriptor that is open (borrowed) touches no memory.
        super::check(unsafe { libc::fcntl(target, libc::F_SETFD, 0) }.into())?;
        return Ok(());
    }
    // SAFETY: dup2 onto 0..=2; the callers are forked children that own their standard descriptors, and no
    // `OwnedFd` of this process holds those numbers.
    super::check(unsafe { libc::dup2(fd.as_raw_fd(), target) }.into())?;
    Ok(())
}

/// Marks every descriptor from `first` on close-on-exec.
pub(crate) fn cloexec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only flags of the descriptor table change, no descriptor is closed under its owner.
    super::check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Whether this number is an open descriptor.
#[cfg(feature = "oci")]
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD only looks at the descriptor table.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Takes close-on-exec from `count` descriptors, `first` and those that follow.
pub(crate) fn inherit(first: RawFd, count: u32) -> Result<(), Errno> {
    for fd in (first..).take(count as usize) {
        // SAFETY: only flags of the descriptor table change; a number that isn't open is an error.
        super::check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into())?;
    }
    Ok(())
}

/// Closes every descriptor but 0 to 2 and those named, whoever owns them. Only for a forked child, at its start.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    close_but_preserved(keep, 0)
}

/// Like [`close_all_but`], but leaves as many after 0 to 2 open as `preserve` says.
pub(crate) fn close_but_preserved(keep: &[BorrowedFd<'_>], preserve: u32) -> Result<(), Errno> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut first = 3_u32.saturating_add(preserve);
    for fd in keep.into_iter().filter(|fd| *fd > 2).chain([u32::MAX]) {
        if fd > first {
            // SAFETY: by contract the caller is a forked child that never returns into the code whose descriptors these
            // are copies of, neither uses nor drops their owners, and ends by execve or _exit.
            super::check(unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) })?;
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// Closes every descriptor from `first` on. Only for a process at its start, before it owns any such descriptor.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: by contract there is no owner yet that could use or close such a number again.
    super::check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// Closes one of the standard descriptors. Only for a forked child that never uses it again.
pub(crate) fn close_number(fd: RawFd) {
    // SAFETY: by contract nobody in this process uses the number any more; nothing in it owns 0 to 2.
    unsafe { libc::close(fd) };
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Takes ownership of a descriptor that a wrapper has just made and returned as a number.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the callers pass what fcntl(F_DUPFD_CLOEXEC) has just returned; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
