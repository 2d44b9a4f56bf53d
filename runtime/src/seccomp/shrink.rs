//! Makes a cBPF program smaller that decides by architecture and number first, as libseccomp's do.
//!
//! Each process that a filter is loaded into has the kernel check, translate and compile the whole program anew, so its
//! length is a part of what starting a container or a command costs. libseccomp compares with every number that a rule
//! names, once for each architecture. Numbers with the same outcome mostly lie side by side: here the outcome is found
//! for every range of numbers, by running the program on ranges instead of numbers, and the decision is written down
//! again as one balanced tree over the ranges' bounds. What looks at arguments is copied as it is.
//!
//! A program of any other form is left alone.

use std::collections::{BTreeMap, BTreeSet};

/// `struct sock_filter` (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) k: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const GREATER: u16 = 0x25;
pub(super) const AT_LEAST: u16 = 0x35;
pub(super) const ANY_BIT: u16 = 0x45;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;

/// Where in `struct seccomp_data` the words lie.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;

/// Far more than any program that the kernel takes needs.
const MAX_STEPS: usize = 1 << 20;

/// A program with the same outcome for every call, in fewer instructions; the same where there is nothing to gain.
pub(super) fn shrink(program: &[u8]) -> Vec<u8> {
    let parsed: Vec<Instruction> = program.chunks_exact(8).map(Instruction::read).collect();
    match rewrite(&parsed) {
        Some(smaller) if smaller.len() < parsed.len() => {
            smaller.iter().flat_map(Instruction::bytes).collect()
        }
        _ => program.to_vec(),
    }
}

impl Instruction {
    fn read(bytes: &[u8]) -> Self {
        Self {
            code: u16::from_le_bytes([bytes[0], bytes[1]]),
            yes: bytes[2],
            no: bytes[3],
            k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    fn bytes(&self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_le_bytes(), self.k.to_le_bytes());
        [a, b, self.yes, self.no, c, d, e, f]
    }

    fn plain(code: u16, k: u32) -> Self {
        Self {
            code,
            yes: 0,
            no: 0,
            k,
        }
    }
}

/// What is in the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    Nothing,
    Arch,
    Number,
}

/// Where the decision by architecture and number ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Return(u32),
    /// The program goes on here, with a look at an argument.
    Copied(usize),
}

/// Numbers up to `last`, from where the range before ends, have this outcome.
#[derive(Debug, Clone, Copy)]
struct Range {
    last: u32,
    outcome: Outcome,
}

fn rewrite(program: &[Instruction]) -> Option<Vec<Instruction>> {
    let arches = arches(program)?;
    let mut trees = Vec::new();
    for arch in arches.iter().copied().map(Some).chain([None]) {
        let mut run = Run {
            program,
            arch,
            ranges: Vec::new(),
            steps: 0,
        };
        run.explore(0, Holds::Nothing, 0, u32::MAX)?;
        trees.push((arch, run.merged()));
    }
    let mut code = Backwards::default();
    code.copy(program, &trees)?;
    // the first to be asked for is written last
    let mut next = None;
    for (arch, ranges) in trees.iter().rev() {
        let start = code.decide(ranges)?;
        next = Some(match (arch, next) {
            (Some(arch), Some(next)) => code.branch(EQUAL, *arch, start, next)?,
            _ => start,
        });
    }
    code.push(Instruction::plain(LOAD, ARCH));
    code.0.reverse();
    Some(code.0)
}

/// The architectures that the program tells apart. None where it does what is not understood here.
fn arches(program: &[Instruction]) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    let (mut open, mut seen) = (vec![(0, Holds::Nothing)], BTreeSet::new());
    while let Some((at, holds)) = open.pop() {
        let instruction = program.get(at)?;
        let after = match (instruction.code, instruction.k) {
            (LOAD, ARCH) => Holds::Arch,
            (LOAD, NUMBER) => Holds::Number,
            (LOAD | AND, _) => Holds::Nothing,
            (EQUAL | GREATER | AT_LEAST | ANY_BIT | JUMP | RETURN, _) => holds,
            _ => return None,
        };
        if instruction.code == EQUAL && holds == Holds::Arch && !found.contains(&instruction.k) {
            found.push(instruction.k);
        }
        if seen.insert((at, holds)) {
            open.extend(next(program, at)?.into_iter().map(|at| (at, after)));
        }
    }
    Some(found)
}

/// The program run for one architecture, and all numbers at once.
struct Run<'a> {
    program: &'a [Instruction],
    /// None: another one than all that the program names.
    arch: Option<u32>,
    ranges: Vec<Range>,
    steps: usize,
}

impl Run<'_> {
    /// Runs on from `at` for the numbers from `first` to `last`.
    fn explore(&mut self, mut at: usize, mut holds: Holds, first: u32, last: u32) -> Option<()> {
        loop {
            self.steps += 1;
            let instruction = *self.program.get(at).filter(|_| self.steps < MAX_STEPS)?;
            let (yes, no) = (
                at + 1 + instruction.yes as usize,
                at + 1 + instruction.no as usize,
            );
            let k = instruction.k;
            match (instruction.code, holds) {
                (LOAD, _) if k == ARCH => (at, holds) = (at + 1, Holds::Arch),
                (LOAD, _) if k == NUMBER => (at, holds) = (at + 1, Holds::Number),
                (LOAD, _) => return self.end(last, Outcome::Copied(at)),
                (RETURN, _) => return self.end(last, Outcome::Return(k)),
                (JUMP, _) => at += 1 + k as usize,
                (EQUAL, Holds::Arch) => at = if self.arch == Some(k) { yes } else { no },
                (GREATER, Holds::Arch) => at = if self.arch? > k { yes } else { no },
                (AT_LEAST, Holds::Arch) => at = if self.arch? >= k { yes } else { no },
                (EQUAL, Holds::Number) => {
                    if first < k && k <= last {
                        self.explore(no, holds, first, k - 1)?;
                    }
                    if first <= k && k <= last {
                        self.explore(yes, holds, k, k)?;
                    }
                    match () {
                        () if k < first || last < k => at = no,
                        () if k == last => return Some(()),
                        () => return self.explore(no, holds, k + 1, last),
                    }
                }
                (GREATER | AT_LEAST, Holds::Number) => {
                    // the first number for which it holds
                    let bound = u64::from(k) + u64::from(instruction.code == GREATER);
                    match u32::try_from(bound) {
                        Ok(bound) if bound <= first => at = yes,
                        Ok(bound) if bound <= last => {
                            self.explore(no, holds, first, bound - 1)?;
                            return self.explore(yes, holds, bound, last);
                        }
                        _ => at = no,
                    }
                }
                _ => return None,
            }
        }
    }

    /// Ranges end in the order of their numbers.
    fn end(&mut self, last: u32, outcome: Outcome) -> Option<()> {
        self.ranges.push(Range { last, outcome });
        Some(())
    }

    /// Neighbours with the same outcome are one.
    fn merged(self) -> Vec<Range> {
        let mut merged: Vec<Range> = Vec::new();
        for range in self.ranges {
            match merged.last_mut() {
                Some(before) if before.outcome == range.outcome => before.last = range.last,
                _ => merged.push(range),
            }
        }
        merged
    }
}

/// A program written from its end, as its jumps lead forward only; places are counted from the end.
#[derive(Default)]
struct Backwards(Vec<Instruction>, BTreeMap<Outcome, usize>);

impl Backwards {
    fn push(&mut self, instruction: Instruction) -> usize {
        self.0.push(instruction);
        self.0.len() - 1
    }

    /// How far the next instruction would have to jump.
    fn distance(&self, to: usize) -> usize {
        self.0.len() - to - 1
    }

    /// Copies what looks at arguments, and all that can follow it, in its order: no jump grows.
    fn copy(&mut self, program: &[Instruction], trees: &[(Option<u32>, Vec<Range>)]) -> Option<()> {
        let mut wanted = BTreeSet::new();
        let starts = trees.iter().flat_map(|(_, ranges)| ranges);
        let mut open: Vec<usize> = starts
            .filter_map(|range| match range.outcome {
                Outcome::Copied(at) => Some(at),
                Outcome::Return(_) => None,
            })
            .collect();
        while let Some(at) = open.pop() {
            if wanted.insert(at) {
                open.extend(next(program, at)?);
            }
        }
        let mut places = BTreeMap::new();
        for at in wanted.into_iter().rev() {
            let mut instruction = *program.get(at)?;
            let to = next(program, at)?;
            let distances: Vec<usize> = to
                .iter()
                .map(|to| Some(self.distance(*places.get(to)?)))
                .collect::<Option<_>>()?;
            match (instruction.code, distances.as_slice()) {
                (JUMP, [far]) => instruction.k = u32::try_from(*far).ok()?,
                (EQUAL | GREATER | AT_LEAST | ANY_BIT, [yes, no]) => {
                    instruction.yes = u8::try_from(*yes).ok()?;
                    instruction.no = u8::try_from(*no).ok()?;
                }
                _ => {}
            }
            let place = self.push(instruction);
            places.insert(at, place);
            self.1.insert(Outcome::Copied(at), place);
        }
        Some(())
    }

    /// The tree for one architecture; answers where it begins.
    fn decide(&mut self, ranges: &[Range]) -> Option<usize> {
        let start = self.tree(ranges)?;
        if ranges.len() == 1 {
            return Some(start);
        }
        // a tree is written right before what it begins with
        if self.distance(start) != 0 {
            self.near(start)?;
        }
        Some(self.push(Instruction::plain(LOAD, NUMBER)))
    }

    fn tree(&mut self, ranges: &[Range]) -> Option<usize> {
        match ranges {
            [] => None,
            [only] => self.outcome(only.outcome),
            // one number that is unlike its neighbours on both sides
            [below, one, above] if below.outcome == above.outcome && one.last == below.last + 1 => {
                let no = self.outcome(above.outcome)?;
                let yes = self.outcome(one.outcome)?;
                self.branch(EQUAL, one.last, yes, no)
            }
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let yes = self.tree(above)?;
                let no = self.tree(below)?;
                self.branch(GREATER, below.last()?.last, yes, no)
            }
        }
    }

    /// Where an outcome is written.
    fn outcome(&mut self, outcome: Outcome) -> Option<usize> {
        match (self.1.get(&outcome), outcome) {
            (Some(place), _) => Some(*place),
            (None, Outcome::Return(value)) => {
                let place = self.push(Instruction::plain(RETURN, value));
                self.1.insert(outcome, place);
                Some(place)
            }
            (None, Outcome::Copied(_)) => None,
        }
    }

    /// A comparison, with steps in between for jumps that are too long for it.
    fn branch(&mut self, code: u16, k: u32, mut yes: usize, mut no: usize) -> Option<usize> {
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(yes), Ok(no)) => return Some(self.push(Instruction { code, yes, no, k })),
                (Err(_), _) => yes = self.near(yes)?,
                (_, Err(_)) => no = self.near(no)?,
            }
        }
    }

    /// The same as what is at `place`, within reach.
    fn near(&mut self, place: usize) -> Option<usize> {
        let there = *self.0.get(place)?;
        if there.code != RETURN {
            let far = u32::try_from(self.distance(place)).ok()?;
            return Some(self.push(Instruction::plain(JUMP, far)));
        }
        let copy = self.push(there);
        self.1.insert(Outcome::Return(there.k), copy);
        Some(copy)
    }
}

/// What may be run after an instruction: for a comparison, first where it holds.
fn next(program: &[Instruction], at: usize) -> Option<Vec<usize>> {
    let instruction = program.get(at)?;
    Some(match instruction.code {
        RETURN => Vec::new(),
        JUMP => vec![at + 1 + instruction.k as usize],
        EQUAL | GREATER | AT_LEAST | ANY_BIT => {
            vec![
                at + 1 + instruction.yes as usize,
                at + 1 + instruction.no as usize,
            ]
        }
        _ => vec![at + 1],
    })
}

#[cfg(test)]
mod tests;
