//! Whether the kernel has killed a group's processes for lack of memory, also when the group is gone: systemd removes a
//! scope once its last process has ended, perhaps before anybody has looked.

use std::path::{Path, PathBuf};

use super::{Handle, manager};

/// What is known of a group's kills when it is gone, by those that its parent has counted since this was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomWatch {
    path: PathBuf,
    /// How many there had been in the parent and all below it, where another may remove the group.
    before: Option<u64>,
}

impl OomWatch {
    pub(super) fn begin(handle: &Handle) -> Self {
        let path = handle.path().to_owned();
        let before = match handle.is_systemds() {
            true => around(&path),
            false => None,
        };
        Self { path, before }
    }

    /// Whether processes of the group were killed so. Of a group that is gone that is likely where its init was ended by
    /// SIGKILL (`by_kill`), and one of the pod was killed so: then it was the only one, or one of its pod's containers.
    pub fn has_killed(&self, by_kill: bool) -> bool {
        match (manager().oom_kills(&self.path), self.before) {
            (Some(kills), _) => kills > 0,
            (None, Some(before)) => by_kill && around(&self.path).is_some_and(|now| now > before),
            (None, None) => false,
        }
    }
}

fn around(path: &Path) -> Option<u64> {
    manager().oom_kills_below(path.parent()?)
}
