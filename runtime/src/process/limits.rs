//! rlimits, OOM score, scheduling, I/O priority.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit, PosixRlimitType,
    Scheduler,
};

use crate::error::{Context, Error, Result};
use crate::sys::process::{SchedAttr, set_io_priority, set_scheduler};

/// Sets `process.rlimits`.
pub(super) fn set_rlimits(limits: &[PosixRlimit]) -> Result<()> {
    for (i, limit) in limits.iter().enumerate() {
        let (soft, hard) = (limit.soft(), limit.hard());
        setrlimit(resource(limit.typ()), soft, hard).map_err(|errno| {
            let name = format!("process.rlimits[{i}]");
            Error::invalid(
                name,
                format!("set {} to {soft}:{hard}: {}", limit.typ(), errno.desc()),
            )
        })?;
    }
    Ok(())
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}

/// Writes the caller's `oom_score_adj` through `proc`, the host's procfs. To lower it takes CAP_SYS_RESOURCE; where
/// that is missing, the score stays and a warning is returned.
pub(crate) fn set_oom_score(proc: BorrowedFd<'_>, score: i32) -> Result<Option<String>> {
    let path = Path::new("self/oom_score_adj");
    let file = openat(proc, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).path("open", path)?;
    match nix::unistd::write(&file, score.to_string().as_bytes()) {
        Ok(_) => Ok(None),
        Err(Errno::EACCES | Errno::EPERM) => Ok(Some(format!(
            "oom_score_adj {score} is below what this process may set; left as it is"
        ))),
        Err(Errno::EINVAL) => Err(Error::invalid(
            "process.oomScoreAdj",
            format!("{score} is not within -1000 to 1000"),
        )),
        Err(errno) => Err(errno).path("write", path),
    }
}

/// The caller's pid as a procfs counts it, whatever pid namespace the caller is in.
#[cfg(feature = "seccomp-compile")]
pub(crate) fn pid_seen_by(proc: BorrowedFd<'_>) -> Result<i32> {
    let text = nix::fcntl::readlinkat(proc, "self").path("read link", "/proc/self")?;
    text.to_str()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| Error::io("read link", "/proc/self", Errno::EPROTO))
}

/// Sets `process.ioPriority`.
pub(super) fn set_io(priority: &LinuxIOPriority) -> Result<()> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = i32::try_from(priority.priority())
        .ok()
        .filter(|p| (0..8).contains(p))
        .ok_or_else(|| {
            Error::invalid(
                "process.ioPriority.priority",
                format!("{} is not within 0 to 7", priority.priority()),
            )
        })?;
    set_io_priority(class << 13 | level).call("ioprio_set")
}

/// Sets `process.scheduler`.
pub(super) fn set_scheduling(scheduler: &Scheduler) -> Result<()> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(Error::invalid(
                "process.scheduler.policy",
                "SCHED_ISO is not known to Linux",
            ));
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        }
    });
    let attr = SchedAttr {
        policy,
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0))
            .map_err(|_| Error::invalid("process.scheduler.priority", "is negative"))?,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..SchedAttr::default()
    };
    set_scheduler(&attr).call("sched_setattr")
}
