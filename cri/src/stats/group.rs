//! A cgroup that is looked at again and again.

use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use pintle_runtime::cgroup::{Depth, Handle, Reader, Stats};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Rate;
use crate::error::Result;

/// Files that one reader keeps open, at most.
const FILES: u64 = 10;

/// The part of the daemon's descriptors that readers may keep: one in this many.
const SHARE: u64 = 2;

/// How many cgroups may have their files kept open. Reading the others costs more.
#[derive(Debug, Clone)]
pub struct Kept(Arc<Semaphore>);

impl Kept {
    /// As many as the limit of descriptors allows (RLIMIT_NOFILE).
    pub fn within_limits() -> Self {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let readers = usize::try_from(soft / SHARE / FILES).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(readers.min(Semaphore::MAX_PERMITS))))
    }
}

/// What is remembered of a cgroup between two questions.
#[derive(Debug, Default)]
pub struct Group {
    /// Its processor time.
    pub cpu: Rate,
    reader: Mutex<Option<(Reader, OwnedSemaphorePermit)>>,
}

impl Group {
    /// The statistics of the cgroup at `path`; None where there is no such group, or no longer.
    ///
    /// # Errors
    /// What else goes wrong.
    pub fn stats(&self, kept: &Kept, path: &str, depth: Depth) -> Result<Option<Stats>> {
        let mut slot = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = match &mut *slot {
            Some((reader, _)) => reader.stats(depth),
            None => {
                let mut reader = Handle::new(path)?.reader();
                let stats = reader.stats(depth);
                if let Ok(permit) = Arc::clone(&kept.0).try_acquire_owned() {
                    *slot = Some((reader, permit));
                }
                stats
            }
        };
        match stats {
            Ok(stats) => Ok(Some(stats)),
            Err(error) => {
                *slot = None;
                if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) {
                    return Ok(None);
                }
                Err(error.into())
            }
        }
    }

    /// Closes what is open of it: it is no longer in use.
    pub fn close(&self) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_gone_is_none_and_keeps_nothing() {
        let path = format!("/pintle-unit-{}", std::process::id());
        let kept = Kept(Arc::new(Semaphore::new(1)));
        let (first, second) = (Group::default(), Group::default());
        assert!(first.stats(&kept, &path, Depth::Usage).unwrap().is_none());
        assert_eq!(kept.0.available_permits(), 1);
        pintle_runtime::cgroup::create(&path).unwrap();
        let read = |group: &Group| {
            group
                .stats(&kept, &path, Depth::Usage)
                .map(|stats| stats.is_some())
        };
        let seen = (read(&first), read(&second), read(&first));
        assert_eq!(
            kept.0.available_permits(),
            0,
            "the second is read without being kept"
        );
        pintle_runtime::cgroup::remove(&path).unwrap();
        assert!(matches!(seen, (Ok(true), Ok(true), Ok(true))), "{seen:?}");
        assert!(!read(&first).unwrap());
        assert_eq!(kept.0.available_permits(), 1);
    }
}
