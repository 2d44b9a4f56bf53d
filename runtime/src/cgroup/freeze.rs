//! Stopping all processes of a group, and letting them go on.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Handle, manager};
use crate::error::{Error, Result};

/// How long processes have to stop where their group is frozen, as with runc.
const STOPS_WITHIN: Duration = Duration::from_secs(2);
const LOOKS_EVERY: Duration = Duration::from_micros(500);

impl Handle {
    /// Tells all processes to stop. They do a little later, see [`Handle::has_stopped`].
    pub(crate) fn begin_to_freeze(&self) -> Result<()> {
        manager().freeze(&self.path, true)
    }

    /// Whether all processes have stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        manager().has_stopped(&self.path)
    }

    /// Stops or resumes all processes.
    ///
    /// Returns once all have stopped. One that can't, as in a read from a file system that doesn't answer, fails it after a while,
    /// and all go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        manager().freeze(&self.path, frozen)?;
        let end = Instant::now() + STOPS_WITHIN;
        while frozen && !self.has_stopped() {
            if Instant::now() > end {
                manager().freeze(&self.path, false)?;
                return Err(Error::io(
                    "stop the processes of cgroup",
                    &self.path,
                    Errno::ETIMEDOUT,
                ));
            }
            std::thread::sleep(LOOKS_EVERY);
        }
        Ok(())
    }

    /// Whether the group is stopped.
    pub fn is_frozen(&self) -> bool {
        manager().is_frozen(&self.path)
    }
}
