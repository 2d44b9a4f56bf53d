//! What libseccomp can't say: system calls that it doesn't know yet, and ENOSYS for those that the profile doesn't
//! know.
//!
//! A prologue of our own stands before libseccomp's program. It looks at native calls only:
//!
//! ```text
//!   arch is native, else ──────────────────▶ libseccomp's program
//!   x32 call? ─────────────────────────────▶ libseccomp's program
//!   number of a newer call with a rule? ───▶ that rule's action
//!   number above the profile's highest? ───▶ ENOSYS
//!   libseccomp's program
//! ```

use crate::error::{Error, Result};

/// Numbers of calls since Linux 5.18, the same on all architectures.
const NEWER: [(&str, u32); 20] = [
    ("set_mempolicy_home_node", 450),
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
];

/// The number of a call that libseccomp doesn't know.
pub(super) fn number(name: &str) -> Option<u32> {
    NEWER.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// A conditional jump spans at most this many instructions; the prologue must be jumped over as a whole.
const MAX_RULES: usize = 100;

/// The prologue. `rules` are numbers with the value that the filter returns for each; above `highest` it returns
/// `otherwise`, if there is such a bound.
pub(super) fn prologue(rules: &[(u32, u32)], bound: Option<(u32, u32)>) -> Result<Vec<u8>> {
    if rules.len() > MAX_RULES {
        return Err(Error::Seccomp(format!(
            "{} rules for new system calls are too many",
            rules.len()
        )));
    }
    let bound_len = if bound.is_some() { 2 } else { 0 };
    let rest = (rules.len() * 2 + bound_len) as u8;
    if rest == 0 {
        return Ok(Vec::new());
    }
    let mut program = Vec::new();
    let mut push = |code: u16, if_true: u8, if_false: u8, k: u32| {
        program.extend(code.to_ne_bytes());
        program.extend([if_true, if_false]);
        program.extend(k.to_ne_bytes());
    };
    push(LOAD, 0, 0, OFFSET_ARCH);
    push(JUMP_EQUAL, 0, rest + 2, AUDIT_ARCH_X86_64);
    push(LOAD, 0, 0, OFFSET_NUMBER);
    push(JUMP_GREATER_EQUAL, rest, 0, X32_BIT);
    for (number, value) in rules {
        push(JUMP_EQUAL, 0, 1, *number);
        push(RETURN, 0, 0, *value);
    }
    if let Some((highest, otherwise)) = bound {
        push(JUMP_GREATER, 0, 1, highest);
        push(RETURN, 0, 0, otherwise);
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_add_is_nothing() {
        assert!(prologue(&[], None).unwrap().is_empty());
    }

    #[test]
    fn jumps_lead_behind_the_prologue() {
        let program = prologue(&[(451, 1), (452, 2)], Some((460, 3))).unwrap();
        let insns: Vec<&[u8]> = program.chunks(8).collect();
        assert_eq!(insns.len(), 10);
        // arch: from 1, over 8
        assert_eq!(1 + 1 + usize::from(insns[1][3]), 10);
        // x32: from 3, over 6
        assert_eq!(3 + 1 + usize::from(insns[3][2]), 10);
        assert!(number("mseal") == Some(462) && number("read").is_none());
    }
}
