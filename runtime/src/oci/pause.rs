//! `pause` and `resume`.

use super::args::Given;
use super::state::{Container, Status};
use super::{Context, only_id, refused};
use crate::error::{Kind, Result};

pub(super) fn pause(context: &mut Context, given: &Given) -> Result<i32> {
    let container = Container::load(context, only_id("pause", given)?)?;
    match container.status() {
        Status::Running | Status::Created => container.cgroup.freeze(true).map(|()| 0),
        status => Err(refused(
            Kind::InvalidState,
            format!("container not running or created: {}", status.name()),
        )),
    }
}

pub(super) fn resume(context: &mut Context, given: &Given) -> Result<i32> {
    let container = Container::load(context, only_id("resume", given)?)?;
    match container.status() {
        Status::Paused => container.cgroup.freeze(false).map(|()| 0),
        _ => Err(refused(Kind::InvalidState, "container not paused")),
    }
}
