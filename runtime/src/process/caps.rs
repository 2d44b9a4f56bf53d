//! `process.capabilities`: the five sets.

use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::error::{Context, Result};
use crate::sys::cred::{
    CapSets, capget, capset, clear_ambient, drop_bounding, in_bounding, keep_caps, raise_ambient,
};

/// Names by number (linux/capability.h), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// All names, without `CAP_`.
#[cfg(feature = "oci")]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
}

/// The sets as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    bounding: u64,
    inner: CapSets,
    ambient: u64,
}

impl Sets {
    /// The bounding set, by the kernel's numbers.
    pub(crate) fn bounding(&self) -> u64 {
        self.bounding
    }

    /// Reads the specification; none given is none held.
    pub(crate) fn read(given: Option<&LinuxCapabilities>) -> Self {
        let Some(given) = given else {
            return Self::default();
        };
        Self {
            bounding: mask(given.bounding().as_ref()),
            inner: CapSets {
                effective: mask(given.effective().as_ref()),
                permitted: mask(given.permitted().as_ref()),
                inheritable: mask(given.inheritable().as_ref()),
            },
            ambient: mask(given.ambient().as_ref()),
        }
    }

    /// First half, still as root: narrows the bounding set and lets the rest survive the change of user.
    ///
    /// Capabilities that this process itself lacks are left out, as nobody could grant them.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        let held = capget().call("capget")?.permitted;
        for number in 0..64 {
            match in_bounding(number) {
                // the kernel knows no higher one
                Err(_) => break,
                Ok(true) if self.bounding & (1 << number) == 0 => {
                    drop_bounding(number).call("drop capability from bounding set")?;
                }
                Ok(_) => {}
            }
        }
        self.inner.permitted &= held;
        self.inner.effective &= self.inner.permitted;
        self.inner.inheritable &= held;
        self.ambient &= self.inner.permitted & self.inner.inheritable;
        keep_caps().call("prctl PR_SET_KEEPCAPS")
    }

    /// Second half, as the user: sets the other four.
    pub(crate) fn apply(&self) -> Result<()> {
        // the set that this user had in the runtime must not outlive it
        clear_ambient().call("clear ambient capabilities")?;
        capset(&self.inner).call("capset")?;
        for number in (0..64).filter(|n| self.ambient & (1 << n) != 0) {
            raise_ambient(number).call("raise ambient capability")?;
        }
        Ok(())
    }
}

/// Ambient capabilities that can't be had, as warnings: only what is permitted and inheritable can be ambient.
pub(crate) fn not_ambient(given: Option<&LinuxCapabilities>) -> Vec<String> {
    let sets = Sets::read(given);
    let missing = sets.ambient & !(sets.inner.permitted & sets.inner.inheritable);
    let names = NAMES
        .iter()
        .enumerate()
        .filter(|(number, _)| missing & (1 << number) != 0);
    let reason = "it is not both permitted and inheritable";
    names
        .map(|(_, name)| format!("can't raise ambient capability CAP_{name}: {reason}"))
        .collect()
}

fn mask(set: Option<&Capabilities>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|cap| NAMES.iter().position(|name| *name == cap.to_string()))
        .fold(0, |mask, number| mask | 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Capability;

    #[test]
    fn names_have_the_kernels_numbers() {
        let set = Capabilities::from([
            Capability::Chown,
            Capability::SysAdmin,
            Capability::CheckpointRestore,
        ]);
        assert_eq!(mask(Some(&set)), 1 | 1 << 21 | 1 << 40);
        let all = [
            Capability::Bpf,
            Capability::Perfmon,
            Capability::Syslog,
            Capability::DacReadSearch,
        ];
        assert!(all.iter().all(|c| NAMES.contains(&c.to_string().as_str())));
    }
}
