//! From a profile of the specification to a cBPF program, by libseccomp, kept on disk by the profile's content.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, ScmpVersion,
    error::SeccompError,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};
use sha2::{Digest, Sha256};

use super::filter::{Filter, HEADER, MAGIC};
use super::newer;
use super::shrink::shrink;
use crate::error::{Context, Error, Result};

/// Raised when this file translates a profile differently than before.
const REVISION: u32 = 2;

/// seccomp_data.h: the number of arguments of a system call.
const MAX_ARGS: u32 = 6;

/// Compiles a profile into a file below `cache_dir` that [`crate::protocol::CreateContainer::seccomp_filter`] can name.
/// A profile that was compiled before is found again by its content.
pub fn compile(profile: &LinuxSeccomp, cache_dir: &Path) -> Result<PathBuf> {
    let path = cache_dir.join(format!("{}.bpf", key(profile)?));
    if path.exists() {
        return Ok(path);
    }
    if notifies(profile) {
        return Err(Error::Seccomp(
            "SCMP_ACT_NOTIFY needs a listener, which a compiled file has not".to_owned(),
        ));
    }
    fs::create_dir_all(cache_dir).path("create folder", cache_dir)?;
    // whole or not at all, also when two compile the same at once
    let mut file = tempfile::NamedTempFile::new_in(cache_dir).path("create file in", cache_dir)?;
    write_to(profile, file.as_file_mut())?;
    file.persist(&path)
        .map_err(|e| Error::io("write", &path, e.error))?;
    Ok(path)
}

/// Compiles a profile for this process, which may have a listener.
pub(crate) fn in_memory(profile: &LinuxSeccomp) -> Result<Filter> {
    let mut file = File::from(memfd_create("seccomp", MFdFlags::MFD_CLOEXEC).call("memfd_create")?);
    write_to(profile, &mut file)?;
    file.rewind().call("rewind seccomp filter")?;
    Filter::from_file(file, Path::new("linux.seccomp"))
}

/// The form that [`Filter`] reads.
fn write_to(profile: &LinuxSeccomp, file: &mut File) -> Result<()> {
    let mut start = Vec::with_capacity(HEADER);
    start.extend(MAGIC);
    start.extend(flags(profile)?.to_le_bytes());
    start.resize(HEADER, 0);
    start.extend(shrink(&program(profile)?));
    file.write_all(&start).call("write seccomp filter")
}

/// The program as libseccomp makes it, with what goes before it.
pub(super) fn program(profile: &LinuxSeccomp) -> Result<Vec<u8>> {
    let (context, mut program) = translate(profile)?;
    let mut file = File::from(memfd_create("seccomp", MFdFlags::MFD_CLOEXEC).call("memfd_create")?);
    context
        .export_bpf(&mut file)
        .map_err(|e| failed("export filter", &e))?;
    file.rewind().call("rewind seccomp filter")?;
    file.read_to_end(&mut program).call("read seccomp filter")?;
    Ok(program)
}

/// Whether some calls are decided by a listener.
pub(crate) fn notifies(profile: &LinuxSeccomp) -> bool {
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    profile.default_action() == LinuxSeccompAction::ScmpActNotify
        || rules
            .iter()
            .any(|r| r.action() == LinuxSeccompAction::ScmpActNotify)
}

fn key(profile: &LinuxSeccomp) -> Result<String> {
    let json = serde_json::to_vec(profile).map_err(|e| Error::Seccomp(e.to_string()))?;
    let library = ScmpVersion::current().map_err(|e| failed("ask for the version", &e))?;
    let mut hash = Sha256::new();
    hash.update(format!("{REVISION} {library} "));
    hash.update(json);
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed(what: &str, e: &SeccompError) -> Error {
    Error::Seccomp(format!("{what}: {e}"))
}

fn flags(profile: &LinuxSeccomp) -> Result<u32> {
    let mut all = 0;
    for flag in profile.flags().iter().flatten() {
        all |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if !notifies(profile) => {
                return Err(Error::Seccomp(
                    "flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a listener".to_owned(),
                ));
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
        };
    }
    Ok(all)
}

/// The rules in libseccomp's hands, and what goes before its program.
fn translate(profile: &LinuxSeccomp) -> Result<(ScmpFilterContext, Vec<u8>)> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).map_err(|e| failed("begin filter", &e))?;
    // a binary tree instead of a list: a few comparisons for each system call instead of hundreds
    context
        .set_ctl_optimize(2)
        .map_err(|e| failed("optimize filter", &e))?;
    for arch in profile.architectures().iter().flatten() {
        context
            .add_arch(architecture(*arch)?)
            .map_err(|e| failed("add architecture", &e))?;
    }
    let mut rules = Rules {
        default,
        newer: Vec::new(),
        highest: 0,
    };
    for rule in profile.syscalls().iter().flatten() {
        rules.add(&mut context, rule)?;
    }
    let prologue = newer::prologue(&rules.newer, rules.bound())?;
    Ok((context, prologue))
}

struct Rules {
    default: ScmpAction,
    /// Numbers that libseccomp doesn't know, with what the filter returns.
    newer: Vec<(u32, u32)>,
    /// The highest number that a rule is about.
    highest: u32,
}

impl Rules {
    fn add(&mut self, context: &mut ScmpFilterContext, rule: &LinuxSyscall) -> Result<()> {
        let action = action(rule.action(), rule.errno_ret().or(Some(libc::EPERM as u32)))?;
        let args = rule.args().as_deref().unwrap_or_default();
        for name in rule.names() {
            let Ok(number) = ScmpSyscall::from_name(name) else {
                self.add_newer(name, action, args)?;
                continue;
            };
            self.highest = self
                .highest
                .max(u32::try_from(number.as_raw_syscall()).unwrap_or(0));
            if action != self.default {
                add_rule(context, action, number, args)
                    .map_err(|e| failed(&format!("add rule for {name}"), &e))?;
            }
        }
        Ok(())
    }

    /// A name that even this crate doesn't know belongs to another architecture or is of the future; no process can
    /// use it under this filter, which is safe only if the default forbids.
    fn add_newer(&mut self, name: &str, action: ScmpAction, args: &[LinuxSeccompArg]) -> Result<()> {
        let Some(number) = newer::number(name) else {
            return Ok(());
        };
        if !args.is_empty() {
            return Err(Error::Seccomp(format!(
                "rule for {name}: conditions on it are not supported"
            )));
        }
        self.highest = self.highest.max(number);
        self.newer.push((number, return_value(action)));
        Ok(())
    }

    /// Above which number a call is unknown; of no interest where everything unknown is allowed.
    fn bound(&self) -> Option<(u32, u32)> {
        let forbids = !matches!(
            self.default,
            ScmpAction::Allow | ScmpAction::Log | ScmpAction::Trace(_)
        );
        (forbids && self.highest > 0).then(|| (self.highest, return_value(ScmpAction::Errno(libc::ENOSYS))))
    }
}

fn add_rule(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    number: ScmpSyscall,
    args: &[LinuxSeccompArg],
) -> std::result::Result<(), SeccompError> {
    let mut conditions = Vec::with_capacity(args.len());
    for arg in args {
        conditions.push(condition(arg)?);
    }
    let repeats = args
        .iter()
        .enumerate()
        .any(|(i, a)| args[..i].iter().any(|b| b.index() == a.index()));
    if repeats {
        // several conditions on one argument mean that any of them will do
        for condition in conditions {
            context.add_rule_conditional(action, number, &[condition])?;
        }
    } else if conditions.is_empty() {
        context.add_rule(action, number)?;
    } else {
        context.add_rule_conditional(action, number, &conditions)?;
    }
    Ok(())
}

fn condition(arg: &LinuxSeccompArg) -> std::result::Result<ScmpArgCompare, SeccompError> {
    // an index out of range is refused by the library
    let index = u32::try_from(arg.index()).unwrap_or(MAX_ARGS);
    let (op, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (
            ScmpCompareOp::MaskedEqual(arg.value()),
            arg.value_two().unwrap_or(0),
        ),
    };
    Ok(ScmpArgCompare::new(index, op, value))
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno as i32),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno as u16),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
    })
}

/// What a program returns for an action (linux/seccomp.h).
fn return_value(action: ScmpAction) -> u32 {
    match action {
        ScmpAction::KillProcess => 0x8000_0000,
        ScmpAction::Trap => 0x0003_0000,
        ScmpAction::Errno(errno) => 0x0005_0000 | (errno as u32 & 0xffff),
        ScmpAction::Trace(data) => 0x7ff0_0000 | u32::from(data),
        ScmpAction::Log => 0x7ffc_0000,
        ScmpAction::Allow => 0x7fff_0000,
        ScmpAction::Notify => 0x7fc0_0000,
        // KillThread, and whatever may come
        _ => 0,
    }
}

fn architecture(arch: Arch) -> Result<ScmpArch> {
    Ok(match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    })
}

/// The version of the library that compiles profiles.
#[cfg(feature = "oci")]
pub(crate) fn library_version() -> String {
    libseccomp::ScmpVersion::current().map_or_else(|_| String::new(), |version| version.to_string())
}

#[cfg(test)]
mod tests;
