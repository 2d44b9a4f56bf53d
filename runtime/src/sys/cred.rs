//! Credentials: capability sets, ids of the file system, seccomp.

use std::ptr;

use nix::errno::Errno;

use super::check;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Effective, permitted and inheritable sets as bit masks by capability number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CapSets {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The caller's sets.
pub(crate) fn capget() -> Result<CapSets, Errno> {
    let mut header = Header {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 fills two data records.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |f: fn(&Data) -> u32| u64::from(f(&data[0])) | u64::from(f(&data[1])) << 32;
    Ok(CapSets {
        effective: join(|d| d.effective),
        permitted: join(|d| d.permitted),
        inheritable: join(|d| d.inheritable),
    })
}

/// Sets the caller's sets.
pub(crate) fn capset(sets: &CapSets) -> Result<(), Errno> {
    let mut header = Header {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let part = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [part(0), part(32)];
    // SAFETY: version 3 reads two data records.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

/// Takes a capability out of the bounding set; EINVAL if the kernel doesn't know it.
pub(crate) fn drop_bounding(cap: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, cap.into(), 0)
}

/// Whether a capability is in the bounding set; an error if the kernel doesn't know it.
pub(crate) fn in_bounding(cap: u32) -> Result<bool, Errno> {
    // SAFETY: plain integers.
    Ok(check(unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(cap), 0, 0, 0) }.into())? == 1)
}

/// Empties the ambient set.
pub(crate) fn clear_ambient() -> Result<(), Errno> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
        0,
    )
}

/// Adds to the ambient set what is permitted and inheritable.
pub(crate) fn raise_ambient(cap: u32) -> Result<(), Errno> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
        cap.into(),
    )
}

/// Keeps the permitted set over the change from root to another user; execve resets it.
pub(crate) fn keep_caps() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)
}

/// setgroups(2), without the C library's message to other threads: for forked, single-threaded children.
pub(crate) fn set_groups(gids: &[u32]) -> Result<(), Errno> {
    // SAFETY: the length is that of the list.
    check(unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) })?;
    Ok(())
}

/// setresgid(2) and setresuid(2), in this order.
pub(crate) fn set_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Becomes 0 of the user namespace that the caller has just entered, and gives up the groups that it had outside.
pub(crate) fn become_root() -> Result<(), Errno> {
    set_ids(0, 0)?;
    set_groups(&[])
}

/// Loads a seccomp filter. `program` is an array of `struct sock_filter` in memory order.
pub(crate) fn load_seccomp(program: &[u8], flags: u32) -> Result<i64, Errno> {
    const INSTRUCTION: usize = size_of::<libc::sock_filter>();
    let len = u16::try_from(program.len() / INSTRUCTION).map_err(|_| Errno::E2BIG)?;
    if len == 0 || !program.len().is_multiple_of(INSTRUCTION) {
        return Err(Errno::EINVAL);
    }
    // copied, so that it is aligned
    let filter: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION)
        .map(|c| libc::sock_filter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let prog = libc::sock_fprog {
        len,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program's pointer and length are those of `filter`, which outlives the call; the kernel checks it.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::from_ref(&prog),
        )
    })
}

fn prctl(option: i32, a: libc::c_ulong, b: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: the options used here take integers only; the rest must be zero.
    check(unsafe { libc::prctl(option, a, b, 0, 0) }.into())?;
    Ok(())
}
