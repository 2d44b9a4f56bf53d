//! Mount options of the specification (`mounts[].options`), as mount(8) knows them.

use nix::mount::MsFlags;

use crate::error::{Error, Result};
use crate::sys::mount::attr;

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attrs {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Attrs {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// A later option overrules an earlier one.
    fn apply(&mut self, bit: u64, on: bool) {
        if bit & attr::ATIME != 0 || bit == RELATIME {
            // one field of three values, which can only be replaced as a whole
            self.set = (self.set & !attr::ATIME) | if bit == RELATIME { 0 } else { bit };
            self.clear |= attr::ATIME;
        } else if on {
            self.set |= bit;
            self.clear &= !bit;
        } else {
            self.set &= !bit;
            self.clear |= bit;
        }
    }
}

/// Stands for the value 0 of the atime field.
const RELATIME: u64 = 1 << 63;

/// What the options of one mount come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `bind` or `rbind`, and whether recursive.
    pub(crate) bind: Option<bool>,
    /// Of the mount itself.
    pub(crate) attrs: Attrs,
    /// Of it and everything mounted below (`rro`, `rnosuid`, …).
    pub(crate) recursive: Attrs,
    /// `MS_SHARED` etc., with `MS_REC` for the `r` forms; in order.
    pub(crate) propagation: Vec<MsFlags>,
    /// Copy what the tmpfs covers into it.
    pub(crate) copy_up: bool,
    /// Map ids; true for the recursive form.
    pub(crate) idmap: Option<bool>,
    /// What the file system itself gets.
    pub(crate) data: Vec<String>,
}

/// Options about a mount, by name: bit, and whether the name sets or clears it. With an `r` before it, each is recursive.
const ATTRIBUTES: [(&str, u64, bool); 17] = [
    ("ro", attr::RDONLY, true),
    ("rw", attr::RDONLY, false),
    ("nosuid", attr::NOSUID, true),
    ("suid", attr::NOSUID, false),
    ("nodev", attr::NODEV, true),
    ("dev", attr::NODEV, false),
    ("noexec", attr::NOEXEC, true),
    ("exec", attr::NOEXEC, false),
    ("noatime", attr::NOATIME, true),
    ("atime", RELATIME, true),
    ("relatime", RELATIME, true),
    ("strictatime", attr::STRICTATIME, true),
    ("nostrictatime", RELATIME, true),
    ("nodiratime", attr::NODIRATIME, true),
    ("diratime", attr::NODIRATIME, false),
    ("nosymfollow", attr::NOSYMFOLLOW, true),
    ("symfollow", attr::NOSYMFOLLOW, false),
];

impl MountOptions {
    /// Reads the options of `mounts[index]`.
    pub(crate) fn parse(index: usize, options: &[String]) -> Result<Self> {
        let mut out = Self::default();
        for option in options {
            if option.contains('\0') {
                return Err(Error::invalid(
                    format!("mounts[{index}].options"),
                    format!("{option:?} holds a NUL"),
                ));
            }
            out.add(option);
        }
        Ok(out)
    }

    fn add(&mut self, option: &str) {
        if let Some((_, bit, on)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
            return self.attrs.apply(*bit, *on);
        }
        if let Some((_, bit, on)) = option
            .strip_prefix('r')
            .and_then(|rest| ATTRIBUTES.iter().find(|(name, ..)| *name == rest))
        {
            return self.recursive.apply(*bit, *on);
        }
        match option {
            "defaults" | "" => {}
            "norelatime" => self.attrs.apply(attr::STRICTATIME, true),
            "rnorelatime" => self.recursive.apply(attr::STRICTATIME, true),
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            // of mount(8) alone: they say when to mount, not how
            "auto" | "noauto" | "user" | "nouser" | "users" | "_netdev" | "nofail" | "loud" | "silent" => {}
            // each mount is made with all that is asked of it
            "remount" => {}
            _ => match propagation(option) {
                Some(flags) => self.propagation.push(flags),
                None => self.data.push(option.to_owned()),
            },
        }
    }
}

/// A propagation type by its name in the specification.
pub(crate) fn propagation(name: &str) -> Option<MsFlags> {
    let (name, recursive) = match name.strip_prefix('r') {
        Some(rest) => (rest, MsFlags::MS_REC),
        None => (name, MsFlags::empty()),
    };
    let kind = match name {
        "private" => MsFlags::MS_PRIVATE,
        "slave" => MsFlags::MS_SLAVE,
        "shared" => MsFlags::MS_SHARED,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
        MountOptions::parse(0, &options).unwrap()
    }

    #[test]
    fn later_options_overrule_earlier_ones() {
        let o = parse(&["ro", "nosuid", "rw", "noatime", "relatime"]);
        assert_eq!(o.attrs.set, attr::NOSUID);
        assert_eq!(o.attrs.clear, attr::RDONLY | attr::ATIME);
    }

    #[test]
    fn r_forms_are_recursive_and_words_reach_the_file_system() {
        let o = parse(&["rbind", "rro", "rprivate", "size=1m", "newinstance", "rnosuid"]);
        assert_eq!(o.bind, Some(true));
        assert_eq!(o.recursive.set, attr::RDONLY | attr::NOSUID);
        assert!(o.attrs.is_empty());
        assert_eq!(o.propagation, [MsFlags::MS_PRIVATE | MsFlags::MS_REC]);
        assert_eq!(o.data, ["size=1m", "newinstance"]);
    }
}
