//! The last hands on a container's spec, after what its config says: its runtime handler's.

use crate::cdi::Cdi;
use crate::config::Handler;
use crate::core::Core;
use crate::error::Result;
use crate::spec::{ContainerSpec, base};

use super::ContainerRecord;
use crate::pod::PodRecord;

/// What every other runtime takes; some look at the version before they look at what is asked for.
const OLD_VERSION: &str = "1.0.2";

/// Finishes a spec. Blocking.
///
/// # Errors
/// What doesn't fit, or can't be had.
pub(super) fn finish(
    core: &Core,
    handler: &Handler,
    _pod: &PodRecord,
    record: &ContainerRecord,
    made: &mut ContainerSpec,
) -> Result<()> {
    if handler.program.is_some() {
        made.spec.set_version(OLD_VERSION.to_owned());
    }
    if let Some(base) = &handler.base_spec {
        made.spec = base::over(base, &made.spec)?;
    }
    if !handler.device_rules.is_empty() {
        let linux = made.spec.linux_mut().get_or_insert_default();
        let resources = linux.resources_mut().get_or_insert_default();
        let rules = resources.devices_mut().get_or_insert_default();
        rules.extend(handler.device_rules.iter().cloned());
    }
    core.cdi
        .inject(&mut made.spec, &Cdi::asked_for(&record.config)?)?;
    Ok(())
}
