//! Clears a slot of whatever is left in it: processes, mounts, links, cgroups, folders.
//!
//! This is the safety net below the daemon's own clean-up, for failed tests and killed runs. It touches only what
//! carries the slot's names, never fails, and says nothing: what should have been gone is the leak counter's affair.

mod firewall;

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::slot::Slot;
use crate::{cgroups, host, wait};

/// Clears `slot`.
pub fn sweep(slot: &Slot) {
    let _ = wait::until("the slot's processes to end", Duration::from_secs(10), || {
        !kill_all(slot)
    });
    for folder in [slot.state(), slot.root()] {
        unmount_below(&folder);
    }
    remove_links(slot);
    firewall::clear(slot);
    cgroups::remove(&slot.cgroup());
    if std::env::var_os("PINTLE_TEST_KEEP").is_none() {
        let _ = fs::remove_dir_all(slot.state());
        let _ = fs::remove_dir_all(slot.root());
    }
}

/// Kills what the slot still runs; false when there was nothing.
fn kill_all(slot: &Slot) -> bool {
    let mut pids = host::pids_in_cgroup(&slot.cgroup());
    pids.extend(host::pids_naming(&slot.state()));
    pids.extend(host::pids_naming(&slot.root()));
    for pid in &pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    !pids.is_empty()
}

fn unmount_below(folder: &Path) {
    let mut targets: Vec<_> = host::mounts("self")
        .unwrap_or_default()
        .into_iter()
        .map(|m| m.target)
        .collect();
    targets.retain(|t| t.starts_with(folder));
    for target in targets.iter().rev() {
        let _ = umount2(target, MntFlags::MNT_DETACH);
    }
}

fn remove_links(slot: &Slot) {
    let bridge = slot.bridge();
    for port in host::bridge_ports(&bridge) {
        let _ = host::run("ip", &["link", "delete", &port]);
    }
    if host::links().contains(&bridge) {
        let _ = host::run("ip", &["link", "delete", &bridge]);
    }
}
