//! Processes: fork, clone3, pidfds, execve, waiting.

use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::birth::Birth;
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::check;
use super::fd::retry;
use crate::error::Context;

/// The flag of clone3(2), beyond the range of the type that `libc` gives it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a fork one is on.
pub(crate) enum Forked {
    /// The caller, with the child's pid.
    Parent(Pid),
    /// The new process. It must never return into the code that forked: when this value goes, the process ends.
    Child(NeverReturns),
}

/// Ends the process when dropped, be it by a panic.
pub(crate) struct NeverReturns(());

impl Drop for NeverReturns {
    fn drop(&mut self) {
        exit_now(1);
    }
}

/// fork(2) through the C library, so that its locks are in order in the child even if the caller has threads.
pub(crate) fn fork() -> Result<Forked, Errno> {
    // SAFETY: the child runs this crate's set-up code only, which takes no lock that another thread of the caller
    // could hold (it reads no environment, prints nothing), and ends by execve or _exit.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        nix::unistd::ForkResult::Child => Ok(Forked::Child(NeverReturns(()))),
    }
}

/// fork(2) whose child is born in the cgroup2 folder given. A caller with several threads gets `None`: only the C
/// library's fork is safe for it.
pub(crate) fn fork_into(cgroup: BorrowedFd<'_>) -> Result<Option<Forked>, Errno> {
    match nix::sys::stat::stat("/proc/self/task")?.st_nlink {
        // the folder itself, `.`, and one thread
        3 => clone(0, false, Some(cgroup), None).map(Some),
        _ => Ok(None),
    }
}

/// clone3(2) with the `CLONE_NEW*` flags given; with `sibling` the child's parent is the caller's parent; with `cgroup`
/// it is born in that cgroup2 folder; `birth` learns its number.
///
/// Only for a single-threaded caller (a forked child): the C library isn't told.
pub(crate) fn clone(
    namespaces: u64,
    sibling: bool,
    cgroup: Option<BorrowedFd<'_>>,
    birth: Option<&Birth>,
) -> Result<Forked, Errno> {
    // SAFETY: all-zero is a valid clone_args: no stack, no flags.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces;
    if sibling {
        args.flags |= libc::CLONE_PARENT as u64; // inherits the exit signal, so none may be given
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    if let Some(birth) = birth {
        args.flags |= libc::CLONE_PARENT_SETTID as u64;
        args.parent_tid = birth.address();
    }
    // SAFETY: without CLONE_VM this is a fork: the child runs on a copy of this stack. The caller is
    // single-threaded, so nothing of the copy is in use by a thread that the child doesn't have.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    Ok(if pid == 0 {
        Forked::Child(NeverReturns(()))
    } else {
        Forked::Parent(Pid::from_raw(pid as libc::pid_t))
    })
}

/// Ends the process at once: no destructors, no exit handlers of the process that was forked.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// A pidfd of a process; free of races only for a child that has not been waited for.
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: plain integers; the descriptor returned is new and close-on-exec.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just returned it; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// The process that a pidfd refers to, by its number here.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> crate::error::Result<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&path).path("read", &path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    match line.and_then(|pid| pid.trim().parse().ok()) {
        // -1: it has ended
        Some(pid @ 1..) => Ok(Pid::from_raw(pid)),
        _ => Err(Errno::ESRCH).call("find the process of a pidfd"),
    }
}

/// Sends a signal through a pidfd.
pub(crate) fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: no siginfo is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Joins the namespaces (`CLONE_NEW*` bits) of the process that `fd` is a pidfd of, or the one that `fd` is.
pub(crate) fn setns(fd: BorrowedFd<'_>, namespaces: i32) -> Result<(), Errno> {
    // SAFETY: plain integers.
    check(unsafe { libc::setns(fd.as_raw_fd(), namespaces) }.into())?;
    Ok(())
}

/// The `CLONE_NEW*` flag of a namespace that a descriptor refers to (ioctl_nsfs(2), NS_GET_NSTYPE).
pub(crate) fn namespace_kind(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: takes no argument
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) })
}

/// Waits for this child to end.
pub(crate) fn wait(pid: Pid) -> Result<WaitStatus, Errno> {
    retry(|| waitpid(pid, None))
}

/// Puts every signal back to its default and unblocks all, so that a program starts as if from a clean shell.
pub(crate) fn reset_signals() {
    // SAFETY: all-zero is a valid sigset_t; the kernel's signals 1..=64 are set to their default disposition, which
    // refers to no handler. SIGKILL, SIGSTOP and the C library's own refuse, harmlessly.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Has writes beyond the size limit of files (`RLIMIT_FSIZE`) fail rather than end the program, also the program that is
/// executed next.
pub(crate) fn survive_size_limit() {
    // SAFETY: ignoring a signal refers to no handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets another process write to no file any more (prlimit(2)); pipes and sockets are none.
pub(crate) fn forbid_writing(pid: Pid) -> Result<(), Errno> {
    let nothing = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the new limit outlives the call, and the old one is not asked for.
    let done = unsafe {
        libc::prlimit64(
            pid.as_raw(),
            libc::RLIMIT_FSIZE,
            &raw const nothing,
            ptr::null_mut(),
        )
    };
    Errno::result(done).map(drop)
}

/// Has the caller end when it is asked to, also as the first process of a pid namespace, which is not sent a signal
/// that it has no handler for. A program that is executed has the defaults again.
pub(crate) fn end_on_signals() -> Result<(), Errno> {
    extern "C" fn end(signal: libc::c_int) {
        exit_now(128 + signal);
    }
    let action = nix::sys::signal::SigAction::new(
        nix::sys::signal::SigHandler::Handler(end),
        nix::sys::signal::SaFlags::empty(),
        nix::sys::signal::SigSet::empty(),
    );
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        // SAFETY: the handler does nothing but _exit, which is async-signal-safe.
        unsafe { nix::sys::signal::sigaction(signal, &action) }?;
    }
    Ok(())
}

/// execve(2); returns only if it failed.
pub(crate) fn execve(path: &CString, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain(std::iter::once(ptr::null()))
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both are null-terminated arrays of NUL-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Errno::last()
}

/// execveat(2) of an open file; returns only if it failed.
pub(crate) fn execute_file(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain(std::iter::once(ptr::null()))
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: an empty path, and null-terminated arrays of NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// Has the kernel send `signal` to the caller when its parent ends.
pub(crate) fn set_parent_death_signal(signal: i32) -> Result<(), Errno> {
    // SAFETY: plain integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }.into())?;
    Ok(())
}

/// Sets scheduling class and niceness of I/O (ioprio_set(2)) of the caller.
pub(crate) fn set_io_priority(value: i32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })?;
    Ok(())
}

/// `struct sched_attr` of sched_setattr(2).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// Sets the scheduling policy of the caller.
pub(crate) fn set_scheduler(attr: &SchedAttr) -> Result<(), Errno> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        ..*attr
    };
    // SAFETY: a `struct sched_attr` that names its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })?;
    Ok(())
}

/// Sets the NUMA policy of the caller (set_mempolicy(2)); `nodes` is a bit mask.
pub(crate) fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<(), Errno> {
    let bits = nodes.len() * u64::BITS as usize;
    // SAFETY: the mask is as long as is said and lives during the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) })?;
    Ok(())
}

/// Sets the execution domain (personality(2)).
pub(crate) fn set_personality(domain: u64) -> Result<(), Errno> {
    // SAFETY: a plain integer.
    check(unsafe { libc::personality(domain as libc::c_ulong) }.into())?;
    Ok(())
}

/// Sets the NIS domain name of the caller's UTS namespace.
pub(crate) fn set_domain_name(name: &str) -> Result<(), Errno> {
    // SAFETY: pointer and length of a string that lives during the call.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(())
}
