//! A process for what is to leave no mount behind.

use nix::sched::{CloneFlags, unshare};

use crate::channel::{Channel, Report};
use crate::error::{Context, Error, Result};
use crate::sys::process::{Forked, exit_now, fork, wait};

/// Does something in a process with a mount namespace of its own, which leaves no mount behind.
pub(super) fn in_child(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (ours, theirs) = Channel::pair()?;
    match fork().call("fork")? {
        Forked::Child(_child) => {
            let done = unshare(CloneFlags::CLONE_NEWNS)
                .call("unshare mount namespace")
                .and_then(|()| work());
            if let Err(error) = done {
                theirs.report_failure(&error);
            }
            exit_now(0)
        }
        Forked::Parent(child) => {
            drop(theirs);
            let told = ours.receive()?;
            wait(child).call("wait for mounts")?;
            match told {
                Some((Report::Failed { kind, message }, _)) => Err(Error::Remote { kind, message }),
                _ => Ok(()),
            }
        }
    }
}
