//! Deleting interfaces that were cut off.
//!
//! The kernel lets who deletes an interface wait until all processors have forgotten it. All that wait at the same
//! time wait once: cut-off interfaces are in one group, and the group is deleted as a whole.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::libc;

use super::Network;
use crate::error::{IoContext, Result};
use crate::rt::Route;
use crate::rt::doom;

/// How long to wait for more to delete: deletions keep the kernel's lock that every other change waits for.
const GATHER: Duration = Duration::from_millis(20);

/// Whether a thread is deleting, and whether more was cut off meanwhile.
#[derive(Debug, Default)]
pub(super) struct Sweeper(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: bool,
    again: bool,
}

impl Sweeper {
    /// Whether the caller has to start the thread.
    fn wanted(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.again = state.running;
        !std::mem::replace(&mut state.running, true)
    }

    /// Whether the thread has to go on.
    fn goes_on(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = std::mem::take(&mut state.again);
        state.running
    }
}

impl Network {
    /// Deletes the interfaces of pods that were cut off, by whatever process, and waits for it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn sweep(&self) -> Result<()> {
        Network::sweep_host()
    }

    /// [`Network::sweep`], which is the same for all networks of a host.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn sweep_host() -> Result<()> {
        sweep(&mut Route::open()?)
    }

    /// The same on a thread of its own; one at a time.
    pub(super) fn sweep_later(&self) -> Result<()> {
        if !self.0.sweeper.wanted() {
            return Ok(());
        }
        // Opened here, in the caller's network namespace.
        let mut socket = Route::open()?;
        let network = self.clone();
        let work = move || {
            loop {
                std::thread::sleep(GATHER);
                if let Err(error) = sweep(&mut socket) {
                    tracing::warn!(%error, "interfaces of detached pods are left until the next sweep");
                }
                if !network.0.sweeper.goes_on() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("netplug-sweep".into())
            .stack_size(128 * 1024);
        thread
            .spawn(work)
            .map(drop)
            .io("start", Path::new("sweeping thread"))
    }
}

fn sweep(socket: &mut Route) -> Result<()> {
    match socket.run(&[doom::delete_doomed()]) {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_and_none_too_few() {
        let sweeper = Sweeper::default();
        assert!(sweeper.wanted(), "the first starts the thread");
        assert!(!sweeper.wanted(), "the second relies on it");
        assert!(sweeper.goes_on(), "which therefore goes round once more");
        assert!(!sweeper.goes_on());
        assert!(sweeper.wanted());
    }
}
