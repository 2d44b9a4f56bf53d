//! Processes that stand still while they are dumped, and go on whatever comes of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::refused;
use crate::cgroup::{self, Handle};
use crate::error::{Kind, Result};

/// The pause between two looks at a group that is about to stand still; v1 has no event for that.
const PAUSE: Duration = Duration::from_millis(2);

/// Groups that stand still; they go on when this is dropped.
#[derive(Debug, Default)]
pub struct Frozen {
    groups: Vec<Handle>,
}

impl Frozen {
    /// Stops the groups, all of them before any is waited for, so that none runs on for long while another stands.
    ///
    /// # Errors
    /// One doesn't stand still within `limit`; then all go on.
    pub fn freeze(groups: &[Handle], limit: Duration) -> Result<Self> {
        let mut frozen = Self::default();
        for group in groups {
            // first in the list: a write that fails may have stopped some of the processes
            frozen.groups.push(group.clone());
            group.begin_to_freeze()?;
        }
        let deadline = Instant::now() + limit;
        for group in groups {
            while !group.has_stopped() {
                if Instant::now() >= deadline {
                    let message = "its processes do not stand still: one of them waits in the kernel";
                    return Err(refused(Kind::Kernel, message));
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for group in &self.groups {
            // a group that is gone has nothing to go on
            let _ = group.freeze(false);
        }
    }
}

/// The folder of a group in the hierarchy that freezes, with its state file.
pub(super) fn folder(group: &Handle) -> Option<PathBuf> {
    let folders = cgroup::manager().folders(group.path());
    let of = |file: &str| folders.iter().find(|folder| folder.join(file).exists()).cloned();
    of("freezer.state").or_else(|| of("cgroup.freeze"))
}
