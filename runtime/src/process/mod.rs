//! The last steps of a process before it becomes a container's program: limits, user, capabilities, seccomp, execve.

mod caps;
mod env;
mod launch;
mod limits;
mod lsm;
mod placement;
mod terminal;

#[cfg(feature = "oci")]
pub(crate) use caps::names as capability_names;
pub(crate) use caps::{Sets, not_ambient};
pub(crate) use launch::{Launch, above_stdio, check_program, install_streams, run};
#[cfg(feature = "seccomp-compile")]
pub(crate) use limits::pid_seen_by;
pub(crate) use limits::set_oom_score;
pub(crate) use lsm::{
    check as check_labels, is_selinux as selinux_is_enabled, set_for_exec as set_labels_for_exec,
};
pub(crate) use placement::{Affinity, Machine, reset_affinity, set_affinity};
pub(crate) use terminal::{Console, open as open_terminal};
