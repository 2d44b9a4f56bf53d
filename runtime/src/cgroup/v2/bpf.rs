//! Device rules as an eBPF program on a cgroup (BPF_PROG_TYPE_CGROUP_DEVICE).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::super::devices::{Access, Kind, Rule};
use crate::error::{Context, Result};
use crate::sys::bpf::{self, Insn};

// linux/bpf.h
const ACC_MKNOD: i32 = 1;
const ACC_READ: i32 = 2;
const ACC_WRITE: i32 = 4;
const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;

// what the registers hold after the preamble
const RET: u8 = 0;
const CTX: u8 = 1; // and, once read, a scratch register
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Puts the rules on a group in the place of those that it had.
pub(super) fn attach(folder: &Path, rules: &[Rule]) -> Result<()> {
    let group = File::open(folder).path("open cgroup", folder)?;
    let old = bpf::attached_device_programs(group.as_fd()).path("query device programs of", folder)?;
    if !allows_everything(rules) {
        let program = bpf::load_device_program(&compile(rules)).call("load device filter (bpf)")?;
        bpf::attach_device_program(group.as_fd(), program.as_fd()).path("attach device filter to", folder)?;
    }
    for program in old {
        bpf::detach_device_program(group.as_fd(), program.as_fd())
            .path("detach device filter from", folder)?;
    }
    Ok(())
}

/// Whether nothing is denied after the last rule that allows everything.
fn allows_everything(rules: &[Rule]) -> bool {
    rules
        .iter()
        .rposition(Rule::is_everything)
        .is_some_and(|i| rules[i..].iter().all(|r| r.allow))
}

/// The last rule that matches decides, so they are tried from the last to the first.
pub(super) fn compile(rules: &[Rule]) -> Vec<Insn> {
    let mut program = vec![
        Insn::load32(TYPE, CTX, 0),
        Insn::mov(ACCESS, TYPE),
        Insn::shift_right(ACCESS, 16),
        Insn::and(TYPE, 0xffff),
        Insn::load32(MAJOR, CTX, 4),
        Insn::load32(MINOR, CTX, 8),
    ];
    for rule in rules.iter().rev() {
        let block = compile_rule(rule);
        program.extend(block);
        if rule.is_everything() {
            return program;
        }
    }
    program.extend([Insn::mov_imm(RET, 0), Insn::exit()]);
    program
}

fn compile_rule(rule: &Rule) -> Vec<Insn> {
    // conditions jump over the verdict if they don't hold; the distance is filled in at the end
    let mut block = Vec::new();
    if let Some(kind) = rule.kind {
        block.push(Insn::jump_not_equal(
            TYPE,
            if kind == Kind::Block { DEV_BLOCK } else { DEV_CHAR },
        ));
    }
    if rule.access != Access::ALL {
        block.extend([Insn::mov(CTX, ACCESS), Insn::and(CTX, mask(rule.access))]);
        block.push(if rule.allow {
            Insn::jump_not_equal_reg(CTX, ACCESS) // something is asked for that isn't granted
        } else {
            Insn::jump_equal(CTX, 0) // nothing is asked for that is denied
        });
    }
    if let Some(major) = rule.major {
        block.push(Insn::jump_not_equal(MAJOR, major as i32));
    }
    if let Some(minor) = rule.minor {
        block.push(Insn::jump_not_equal(MINOR, minor as i32));
    }
    block.extend([Insn::mov_imm(RET, i32::from(rule.allow)), Insn::exit()]);
    let end = block.len();
    for (i, insn) in block.iter_mut().enumerate() {
        insn.jump_to(i, end);
    }
    block
}

fn mask(access: Access) -> i32 {
    [
        (access.mknod, ACC_MKNOD),
        (access.read, ACC_READ),
        (access.write, ACC_WRITE),
    ]
    .iter()
    .filter_map(|(set, bit)| set.then_some(*bit))
    .sum()
}

#[cfg(test)]
mod tests {
    use super::super::super::devices::rules;
    use super::*;

    #[test]
    fn the_kernel_accepts_the_program_of_the_standard_rules() {
        let program = compile(&rules(&[]).unwrap());
        bpf::load_device_program(&program).unwrap();
    }

    #[test]
    fn privileged_needs_no_program() {
        let all = oci_spec::runtime::LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .access("rwm")
            .build()
            .unwrap();
        assert!(allows_everything(&rules(&[all]).unwrap()));
        assert!(!allows_everything(&rules(&[]).unwrap()));
    }
}
