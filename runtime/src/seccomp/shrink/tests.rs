//! A program and its smaller form decide alike.

use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;

use super::*;
use crate::seccomp::compile::program;
use crate::seccomp::default_profile;

/// Runs a program as the kernel would (linux/filter.h); the words of `struct seccomp_data` in their order.
fn run(program: &[Instruction], data: &[u32; 16]) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    for _ in 0..4096 {
        let Instruction { code, yes, no, k } = program[at];
        let goes = match code {
            LOAD => {
                accumulator = data[k as usize / 4];
                at += 1;
                continue;
            }
            AND => {
                accumulator &= k;
                at += 1;
                continue;
            }
            JUMP => {
                at += 1 + k as usize;
                continue;
            }
            RETURN => return k,
            EQUAL => accumulator == k,
            GREATER => accumulator > k,
            AT_LEAST => accumulator >= k,
            ANY_BIT => accumulator & k != 0,
            other => panic!("instruction {other:#x}"),
        };
        at += 1 + usize::from(if goes { yes } else { no });
    }
    panic!("no end");
}

const ARCHES: [u32; 4] = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0];

/// Every number near to one that has a name, for every architecture; with a few arguments.
fn assert_alike(before: &[u8], after: &[u8], arguments: &[[u32; 12]]) {
    let parse = |program: &[u8]| program.chunks_exact(8).map(Instruction::read).collect::<Vec<_>>();
    let (before, after) = (parse(before), parse(after));
    let named = (0..700).chain((0..700).map(|n| 0x4000_0000 + n));
    let odd = [0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    for number in named.chain(odd) {
        for arch in ARCHES {
            for words in arguments {
                let mut data = [0; 16];
                (data[0], data[1]) = (number, arch);
                data[4..].copy_from_slice(words);
                assert_eq!(
                    run(&before, &data),
                    run(&after, &data),
                    "{number:#x} on {arch:#x}"
                );
            }
        }
    }
}

#[test]
fn the_default_profile_shrinks_to_a_third_and_decides_alike() {
    let before = program(&default_profile(&[])).unwrap();
    let after = shrink(&before);
    assert!(
        after.len() * 3 < before.len(),
        "{} of {}",
        after.len(),
        before.len()
    );
    let words = [0, 1, 8, 0x0002_0008, 0x7e02_0000, u32::MAX, 38, 39, 40];
    let arguments: Vec<_> = words
        .iter()
        .map(|word| [*word, 0, *word, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .collect();
    assert_alike(&before, &after, &arguments);
}

#[test]
fn what_is_not_understood_is_left_alone() {
    // the length of the packet, which seccomp lets through as well
    let odd = [
        Instruction::plain(0x80, 0).bytes(),
        Instruction::plain(RETURN, 0).bytes(),
    ]
    .concat();
    assert_eq!(shrink(&odd), odd);
    let broken = Instruction::plain(JUMP, 7).bytes().repeat(9);
    assert_eq!(shrink(&broken), broken);
}

fn profile() -> impl Strategy<Value = LinuxSeccomp> {
    let names = [
        "read",
        "write",
        "open",
        "close",
        "stat",
        "mmap",
        "socket",
        "clone",
        "personality",
        "mount",
        "bpf",
        "setns",
        "openat2",
        "clone3",
        "io_uring_enter",
        "futex",
        "prctl",
        "ptrace",
        "kill",
        "keyctl",
    ];
    let action = prop_oneof![
        Just("SCMP_ACT_ALLOW"),
        Just("SCMP_ACT_ERRNO"),
        Just("SCMP_ACT_KILL_PROCESS"),
        Just("SCMP_ACT_LOG"),
    ];
    let op = prop_oneof![
        Just("SCMP_CMP_EQ"),
        Just("SCMP_CMP_NE"),
        Just("SCMP_CMP_LT"),
        Just("SCMP_CMP_GE"),
        Just("SCMP_CMP_MASKED_EQ"),
    ];
    let args = prop::collection::vec((0..6_u32, any::<u64>(), any::<u64>(), op), 0..3);
    let rule = (
        prop::sample::subsequence(names.to_vec(), 1..12),
        action.clone(),
        args,
    );
    let arches = prop::sample::subsequence(vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], 0..=3);
    (action, prop::collection::vec(rule, 0..6), arches).prop_map(|(default, rules, arches)| {
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(names, action, args)| {
                let args: Vec<_> = args
                    .into_iter()
                    .map(|(index, value, two, op)| {
                        serde_json::json!({"index": index, "value": value, "valueTwo": two, "op": op})
                    })
                    .collect();
                serde_json::json!({"names": names, "action": action, "args": args})
            })
            .collect();
        let json = serde_json::json!({"defaultAction": default, "architectures": arches, "syscalls": rules});
        serde_json::from_value(json).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_profile_decides_alike(profile in profile(), words in prop::array::uniform12(any::<u32>())) {
        // rules that contradict one another are refused by the library
        if let Ok(before) = program(&profile) {
            let after = shrink(&before);
            prop_assert!(after.len() <= before.len());
            let mut arguments = vec![words, [0; 12], [u32::MAX; 12]];
            // the very values that rules ask for
            for rule in profile.syscalls().iter().flatten() {
                for arg in rule.args().iter().flatten() {
                    let mut exact = words;
                    exact[arg.index() * 2] = arg.value() as u32;
                    exact[arg.index() * 2 + 1] = (arg.value() >> 32) as u32;
                    arguments.push(exact);
                }
            }
            assert_alike(&before, &after, &arguments);
        }
    }
}
