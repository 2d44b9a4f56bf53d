//! Records of pods and containers: in memory for every answer, on disk for the next daemon.
//!
//! ```text
//! <root>/pods/<pod id>.json              one PodRecord each        (serde, a line a version)
//! <root>/containers/<container id>.json  one ContainerRecord each
//! ```
//!
//! A record is in the kernel's page cache before the step that it announces begins, so the death of the daemon
//! loses nothing. It reaches the disk in the background within a second; a power cut can cost that second, but
//! leaves no half record: a file that can't be read back is reported and its object cleaned up.

mod cell;
mod files;
mod index;
mod names;

pub use cell::{Cell, Record};
pub use files::{Loaded, RecordDir};
pub use index::{Index, Indexed, Lookup};
pub use names::Names;
