//! The profile that `RuntimeDefault` stands for: what ordinary programs need is allowed, the rest is EPERM.
//!
//! System calls that only administer the host come with the capability that they need anyway. Those that are newer than
//! every one named here answer ENOSYS (see the compiler), so that C libraries fall back instead of giving up.

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

mod table;

use table::{BASE, BY_CAPABILITY};

/// `CLONE_NEW*` of all namespaces but time, whose bit clone(2) uses for the exit signal.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;

/// Machine-near sockets to the hypervisor.
const AF_VSOCK: u64 = 40;

/// personality(2): Linux, 32-bit Linux, each with and without UNAME26, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The default profile for a process that has these capabilities in its bounding set.
pub fn default_profile(caps: &[Capability]) -> LinuxSeccomp {
    let mut rules = vec![allow(BASE)];
    rules.extend(
        PERSONALITIES.map(|value| allow_if("personality", arg(0, value, LinuxSeccompOperator::ScmpCmpEq))),
    );
    rules.push(allow_if(
        "socket",
        arg(0, AF_VSOCK, LinuxSeccompOperator::ScmpCmpNe),
    ));
    for (cap, names) in BY_CAPABILITY {
        if caps.contains(&cap) {
            rules.push(allow(names));
        }
    }
    if !caps.contains(&Capability::SysAdmin) {
        let no_namespaces = arg(0, NAMESPACE_FLAGS, LinuxSeccompOperator::ScmpCmpMaskedEq);
        rules.push(allow_if("clone", no_namespaces));
        // its flags lie in memory, where a filter can't look; without it C libraries take clone
        let mut clone3 = allow("clone3");
        clone3.set_action(LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(libc::ENOSYS as u32));
        rules.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM as u32))
        .set_architectures(Some(vec![
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX86,
            Arch::ScmpArchX32,
        ]))
        .set_syscalls(Some(rules));
    profile
}

/// `names` is separated by white space.
fn allow(names: &str) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_whitespace().map(str::to_owned).collect())
        .set_action(LinuxSeccompAction::ScmpActAllow);
    rule
}

fn allow_if(name: &str, condition: LinuxSeccompArg) -> LinuxSyscall {
    let mut rule = allow(name);
    rule.set_args(Some(vec![condition]));
    rule
}

fn arg(index: usize, value: u64, op: LinuxSeccompOperator) -> LinuxSeccompArg {
    // the second value is that of a masked comparison, which here always asks for none of the mask's bits
    LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .value_two(0u64)
        .op(op)
        .build()
        .expect("every field is given")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(profile: &LinuxSeccomp, name: &str) -> bool {
        profile.syscalls().iter().flatten().any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActAllow
                && rule.args().is_none()
                && rule.names().iter().any(|n| n == name)
        })
    }

    #[test]
    fn capabilities_bring_their_system_calls() {
        let plain = default_profile(&[]);
        let admin = default_profile(&[Capability::SysAdmin]);
        for name in ["mount", "unshare", "setns", "bpf", "clone3"] {
            assert!(!allows(&plain, name) && allows(&admin, name), "{name}");
        }
        assert!(!allows(&plain, "chroot") && allows(&default_profile(&[Capability::SysChroot]), "chroot"));
        for name in ["io_uring_setup", "keyctl", "add_key", "kexec_load", "userfaultfd"] {
            assert!(!allows(&admin, name), "{name}");
        }
        assert!(allows(&plain, "openat2") && allows(&plain, "execve"));
    }
}
