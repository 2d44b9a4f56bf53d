//! Container logs in the CRI format: `<RFC 3339 time, 9 digits> <stdout|stderr> <P|F> <content>\n`.
//!
//! ```text
//!   pipe or pty ──read──▶ Lines (cuts lines, holds an unfinished one) ──records──▶ batch ──one write──▶ LogFile
//! ```
//!
//! Both streams of a container share one file; a write holds whole records only, so that no two are ever
//! interleaved and a renamed file ends with a whole record. The records of one batch bear the time of its read.

mod container;
mod file;
mod lines;
mod stamp;

#[cfg(test)]
mod tests;

pub use container::{Batch, ContainerLog, Stream};
pub use file::LogFile;
pub use lines::{Lines, Tag};
pub use stamp::{Stamp, now};

/// The most bytes of content in a record unless the caller says otherwise.
pub const DEFAULT_MAX_LINE: usize = 16 * 1024;

/// The most that a caller may ask for; what of a line is unfinished is held in memory.
pub const LONGEST_MAX_LINE: usize = 1024 * 1024;
