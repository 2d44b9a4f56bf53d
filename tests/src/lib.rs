//! The harness of the end-to-end tests: a real daemon, a real registry, a real kernel, and a client that is not ours.
//!
//! A test asks for a [`world::World`]. It gets a numbered [`slot::Slot`] of the machine (folders, bridge, subnet and
//! cgroup of its own, so that tests and whole test runs can go side by side), a registry on loopback, the daemon,
//! and a connected CRI client. Everything is undone when the world is dropped, also while a test panics; what a
//! killed test run left is undone by the next owner of the slot.
//!
//! Nothing here imports another crate of the workspace: the socket is all that the tests know of Pintle.

pub mod cgroups;
pub mod check;
pub mod child;
pub mod cri;
pub mod criu;
pub mod host;
pub mod http;
pub mod image;
pub mod kubelet;
pub mod leaks;
pub mod logs;
pub mod mem_registry;
pub mod mutate;
pub mod newer;
pub mod nri;
pub mod pod;
pub mod registry;
pub mod server;
pub mod slot;
pub mod stream;
pub mod sweep;
pub mod wait;
pub mod world;
