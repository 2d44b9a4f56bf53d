//! `delete`: what is left of a container goes.

use std::os::fd::AsFd;

use super::args::Given;
use super::state::{Container, Folder, Status, check_id};
use super::{Context, only_id, refused};
use crate::cgroup;
use crate::container::hooks::{self, Kind as HookKind};
use crate::error::{Kind, Result};
use crate::sys::process::pidfd_kill;

pub(super) fn delete(context: &mut Context, given: &Given) -> Result<i32> {
    let id = only_id("delete", given)?;
    let force = given.is_on("force");
    let container = match Container::load(context, id) {
        Ok(container) => container,
        Err(error) if error.kind() == Kind::NotFound && force => {
            // one whose making was cut short has a folder, and no more
            Folder::of(&context.root, check_id(id)?).remove()?;
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    let status = container.status();
    if !matches!(status, Status::Stopped | Status::Created) && !force {
        return Err(refused(
            Kind::InvalidState,
            format!(
                "cannot delete container {id} that is not stopped: {}",
                status.name()
            ),
        ));
    }
    if let Some(warning) = destroy(&container)? {
        context.log.warn(&warning);
    }
    Ok(0)
}

/// Kills what is left and removes everything. Hooks that fail then are only told.
pub(super) fn destroy(container: &Container) -> Result<Option<String>> {
    // without a pid namespace of its own the init is only one of many
    if let Ok(pidfd) = container.pidfd() {
        // it may have ended meanwhile
        let _ = pidfd_kill(pidfd.as_fd(), nix::libc::SIGKILL);
    }
    // of a group of systemd's its name can be used again when this returns
    cgroup::remove(container.record.cgroup.to_str().unwrap_or_default())?;
    if let Some(groups) = &container.record.resctrl {
        groups.remove()?;
    }
    let spec = container.folder.config();
    let id = &container.record.id;
    let plan = spec.and_then(|spec| hooks::Plan::read(&spec, id, &container.record.bundle));
    container.folder.remove()?;
    // a folder of states that is empty now stays: others may be about to use it
    let outcome = plan.and_then(|plan| plan.map_or(Ok(()), |plan| plan.run(HookKind::Poststop, 0, &[])));
    Ok(outcome.err().map(|error| error.to_string()))
}
