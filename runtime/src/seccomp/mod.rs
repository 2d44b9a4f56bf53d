//! seccomp: the default profile, compiling profiles to cBPF programs, and loading those.

#[cfg(feature = "seccomp-compile")]
mod compile;
mod filter;
#[cfg(feature = "seccomp-compile")]
mod newer;
mod profile;

#[cfg(feature = "seccomp-compile")]
mod raw;
#[cfg(feature = "seccomp-compile")]
mod shrink;

#[cfg(feature = "seccomp-compile")]
pub use compile::compile;
#[cfg(feature = "oci")]
pub(crate) use compile::library_version;
pub(crate) use filter::Filter;
pub use profile::default_profile;
#[cfg(feature = "seccomp-compile")]
pub(crate) use raw::{Told, Waiting, connect, of_spec};
