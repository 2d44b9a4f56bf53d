//! Children that ended before it was known which of them matters.

use std::collections::VecDeque;

use nix::unistd::Pid;

/// As many are remembered. One that matters is known within milliseconds of its end, so it is among the latest.
const MOST: usize = 1024;

/// The latest pids that have been reaped.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<i32>);

impl Ended {
    pub(super) fn push(&mut self, pid: i32) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(pid);
    }

    /// Whether it is among them: the number may mean another process by now.
    pub(super) fn holds(&self, pid: Pid) -> bool {
        self.0.contains(&pid.as_raw())
    }
}
