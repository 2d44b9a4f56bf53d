//! bpf(2) for device filters: instructions, loading, attaching to a cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::check;

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;

/// The most programs on one group that are looked at.
const MAX_PROGRAMS: usize = 64;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    imm: i32,
}

/// A jump whose distance [`Insn::jump_to`] still has to fill in.
const OPEN: i16 = i16::MIN;

impl Insn {
    const fn new(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Self {
        Self {
            code,
            registers: dst | src << 4,
            offset,
            imm,
        }
    }

    /// dst = *(u32 *)(src + offset)
    pub(crate) const fn load32(dst: u8, src: u8, offset: i16) -> Self {
        Self::new(0x61, dst, src, offset, 0)
    }

    /// dst = src, 32 bits
    pub(crate) const fn mov(dst: u8, src: u8) -> Self {
        Self::new(0xbc, dst, src, 0, 0)
    }

    /// dst = imm, 64 bits
    pub(crate) const fn mov_imm(dst: u8, imm: i32) -> Self {
        Self::new(0xb7, dst, 0, 0, imm)
    }

    /// dst &= imm, 32 bits
    pub(crate) const fn and(dst: u8, imm: i32) -> Self {
        Self::new(0x54, dst, 0, 0, imm)
    }

    /// dst >>= imm, 32 bits, logical
    pub(crate) const fn shift_right(dst: u8, imm: i32) -> Self {
        Self::new(0x74, dst, 0, 0, imm)
    }

    /// if dst != imm, 32 bits
    pub(crate) const fn jump_not_equal(dst: u8, imm: i32) -> Self {
        Self::new(0x56, dst, 0, OPEN, imm)
    }

    /// if dst == imm, 32 bits
    pub(crate) const fn jump_equal(dst: u8, imm: i32) -> Self {
        Self::new(0x16, dst, 0, OPEN, imm)
    }

    /// if dst != src, 32 bits
    pub(crate) const fn jump_not_equal_reg(dst: u8, src: u8) -> Self {
        Self::new(0x5e, dst, src, OPEN, 0)
    }

    /// return r0
    pub(crate) const fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }

    /// Lets an open jump at position `at` go to position `target`.
    pub(crate) fn jump_to(&mut self, at: usize, target: usize) {
        if self.offset == OPEN {
            self.offset = (target - at - 1) as i16;
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn bpf<T>(command: i32, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is one of the structures above, laid out as the kernel's union for `command`, with its size;
    // pointers in it refer to buffers that the callers keep alive.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: a descriptor that the kernel has just returned (bpf's are close-on-exec); nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

/// Has the kernel check and take a device program.
pub(crate) fn load_device_program(program: &[Insn]) -> Result<OwnedFd, Errno> {
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    bpf(PROG_LOAD, &mut attr).map(owned)
}

/// Puts a program on a group beside those of its parents.
pub(crate) fn attach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    attach_or_detach(PROG_ATTACH, group, program, F_ALLOW_MULTI)
}

/// Takes a program off a group.
pub(crate) fn detach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    attach_or_detach(PROG_DETACH, group, program, 0)
}

fn attach_or_detach(
    command: i32,
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: flags,
    };
    bpf(command, &mut attr)?;
    Ok(())
}

/// The device programs that are on a group itself.
pub(crate) fn attached_device_programs(group: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attr = QueryAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_PROGRAMS as u32,
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut attr)?;
    let count = (attr.prog_cnt as usize).min(MAX_PROGRAMS);
    ids[..count]
        .iter()
        .map(|&id| {
            bpf(
                PROG_GET_FD_BY_ID,
                &mut IdAttr {
                    id,
                    ..IdAttr::default()
                },
            )
            .map(owned)
        })
        .collect()
}
