//! Device rules: the standard devices that every container has, and the rules in v1's notation.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Result};

/// One rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    /// None is both kinds.
    pub(super) kind: Option<Kind>,
    /// None is any.
    pub(super) major: Option<u32>,
    /// None is any.
    pub(super) minor: Option<u32>,
    pub(super) access: Access,
}

/// Block or character devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) mknod: bool,
}

impl Access {
    pub(super) const ALL: Self = Self {
        read: true,
        write: true,
        mknod: true,
    };
    const MKNOD: Self = Self {
        read: false,
        write: false,
        mknod: true,
    };
}

/// The rules of a container: nothing, then what the specification says, then the standard devices.
pub(super) fn rules(given: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let deny_all = Rule {
        allow: false,
        kind: None,
        major: None,
        minor: None,
        access: Access::ALL,
    };
    let mut out = vec![deny_all];
    for (i, rule) in given.iter().enumerate() {
        out.push(checked(i, rule)?);
    }
    out.extend(standard());
    Ok(out)
}

/// Devices that the specification grants every container ("Default Devices"), and making (not using) any node.
fn standard() -> impl Iterator<Item = Rule> {
    let node = |kind, major, minor, access| Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    };
    let char_rwm = move |major, minor: Option<u32>| node(Kind::Char, Some(major), minor, Access::ALL);
    [
        node(Kind::Char, None, None, Access::MKNOD),
        node(Kind::Block, None, None, Access::MKNOD),
        char_rwm(1, Some(3)), // null
        char_rwm(1, Some(5)), // zero
        char_rwm(1, Some(7)), // full
        char_rwm(1, Some(8)), // random
        char_rwm(1, Some(9)), // urandom
        char_rwm(5, Some(0)), // tty
        char_rwm(5, Some(1)), // console
        char_rwm(5, Some(2)), // ptmx
        char_rwm(136, None),  // pts/*
    ]
    .into_iter()
}

fn checked(index: usize, rule: &LinuxDeviceCgroup) -> Result<Rule> {
    let field = |name: &str| format!("linux.resources.devices[{index}].{name}");
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Char),
        Some(LinuxDeviceType::P) => return Err(Error::invalid(field("type"), "a FIFO is no device")),
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| Error::invalid(field(name), format!("{n} is no number"))),
    };
    let mut access = Access {
        read: false,
        write: false,
        mknod: false,
    };
    match rule.access().as_deref() {
        None | Some("") => access = Access::ALL,
        Some(letters) => {
            for letter in letters.chars() {
                match letter {
                    'r' => access.read = true,
                    'w' => access.write = true,
                    'm' => access.mknod = true,
                    _ => {
                        return Err(Error::invalid(
                            field("access"),
                            format!("{letters:?} is not of r, w, m"),
                        ));
                    }
                }
            }
        }
    }
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access,
    })
}

impl Rule {
    /// Whether the rule is about every device and every access.
    pub(super) fn is_everything(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == Access::ALL
    }

    /// The lines that say this to v1's `devices.allow` or `devices.deny`, which know `a` for everything only.
    pub(super) fn v1_lines(&self) -> Vec<String> {
        if self.is_everything() {
            return vec!["a".to_owned()];
        }
        let kinds: &[char] = match self.kind {
            None => &['b', 'c'],
            Some(Kind::Block) => &['b'],
            Some(Kind::Char) => &['c'],
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let access = self.access.letters();
        kinds
            .iter()
            .map(|kind| format!("{kind} {}:{} {access}", number(self.major), number(self.minor)))
            .collect()
    }

    /// What says this to systemd's `DeviceAllow` (systemd.resource-control(5)): a node that need not exist, or all of a
    /// driver's by its name in `known`, which is `/proc/devices`. Nothing, where it can't be said.
    pub(super) fn systemd_lines(&self, known: &str) -> Vec<(String, String)> {
        let kinds: &[Kind] = match &self.kind {
            None => &[Kind::Block, Kind::Char],
            Some(kind) => std::slice::from_ref(kind),
        };
        let named = |kind: Kind| {
            let word = match kind {
                Kind::Block => "block",
                Kind::Char => "char",
            };
            match (self.major, self.minor) {
                (Some(major), Some(minor)) => Some(format!("/dev/{word}/{major}:{minor}")),
                (Some(major), None) => Some(format!("{word}-{}", driver(known, kind, major)?)),
                (None, None) => Some(format!("{word}-*")),
                (None, Some(_)) => None,
            }
        };
        let names = kinds.iter().filter_map(|kind| named(*kind));
        names.map(|name| (name, self.access.letters())).collect()
    }
}

impl Access {
    fn letters(self) -> String {
        [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')]
            .iter()
            .filter_map(|(set, letter)| set.then_some(*letter))
            .collect()
    }
}

/// The name of the driver that has a major number, of `/proc/devices` (proc_devices(5)).
fn driver(known: &str, kind: Kind, major: u32) -> Option<&str> {
    let (chars, blocks) = known.split_once("Block devices:")?;
    let part = match kind {
        Kind::Char => chars,
        Kind::Block => blocks,
    };
    part.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    #[test]
    fn rules_begin_with_nothing_and_end_with_the_standard_devices() {
        let given = [LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(10)
            .minor(229)
            .access("rw")
            .build()
            .unwrap()];
        let rules = rules(&given).unwrap();
        assert_eq!(rules[0].v1_lines(), ["a"]);
        assert!(!rules[0].allow);
        assert_eq!(rules[1].v1_lines(), ["c 10:229 rw"]);
        assert!(rules.iter().any(|r| r.allow && r.v1_lines() == ["c 1:3 rwm"]));
    }

    #[test]
    fn systemd_knows_drivers_by_name() {
        let known = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n136 other\n";
        let lines: Vec<_> = standard().flat_map(|rule| rule.systemd_lines(known)).collect();
        let says = |name: &str, access: &str| lines.contains(&(name.to_owned(), access.to_owned()));
        assert!(says("char-*", "m") && says("block-*", "m"));
        assert!(says("/dev/char/1:3", "rwm") && says("char-pts", "rwm"));
        // without the list nothing is made up
        assert!(standard().last().unwrap().systemd_lines("").is_empty());
    }

    #[test]
    fn bad_rules_name_their_field() {
        let bad = [LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .access("rx")
            .build()
            .unwrap()];
        assert_eq!(
            rules(&bad).unwrap_err().to_string(),
            "linux.resources.devices[0].access: \"rx\" is not of r, w, m"
        );
    }
}
