//! An OCI runtime as a library: namespaces, cgroups, mounts and overlay2, process start, seccomp, exec, stdio and logs.

pub mod cgroup;
mod channel;
pub mod checkpoint;
#[cfg(feature = "client")]
pub mod client;
pub mod container;
pub mod error;
pub mod foreign;
pub mod log;
pub mod monitor;
mod namespace;
mod netdev;
#[cfg(feature = "oci")]
pub mod oci;
mod process;
pub mod protocol;
mod resctrl;
pub mod rootfs;
pub mod sandbox;
pub mod seal;
pub mod seccomp;
mod sys;
pub mod terminal;

pub use error::{Error, Result};
pub use sys::daemon::{keep_heap_small, let_go_of_program};
