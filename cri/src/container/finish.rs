//! The last hands on a container's spec, after what its config says: its runtime handler's, the vendors' of its devices,
//! its classes', and the administrator's hooks.

use crate::cdi::Cdi;
use crate::classes;
use crate::config::Handler;
use crate::core::Core;
use crate::error::Result;
use crate::hooks::{self, Traits};
use crate::nri::Rest;
use crate::spec::{ContainerSpec, Seccomp, base};

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
    pod: &PodRecord,
    record: &ContainerRecord,
    made: &mut ContainerSpec,
) -> Result<()> {
    if handler.program.is_some() {
        made.spec.set_version(OLD_VERSION.to_owned());
    }
    if let Some(base) = &handler.base_spec {
        made.spec = base::over(base, &made.spec)?;
        // The request's profile goes before the base's, and a plugin's before both.
        if !matches!(made.seccomp, Seccomp::Unconfined)
            && let Some(linux) = made.spec.linux_mut()
        {
            linux.set_seccomp(None);
        }
    }
    if !handler.device_rules.is_empty() {
        let linux = made.spec.linux_mut().get_or_insert_default();
        let resources = linux.resources_mut().get_or_insert_default();
        let rules = resources.devices_mut().get_or_insert_default();
        rules.extend(handler.device_rules.iter().cloned());
    }
    core.cdi
        .inject(&mut made.spec, &Cdi::asked_for(&record.config)?)?;
    let settings = &handler.settings;
    let (own, of_pod) = (&record.config.annotations, &pod.config.annotations);
    let classes = settings.blockio_config_file.as_deref();
    let name = record.metadata().name;
    classes::apply(classes, &core.rdt, &mut made.spec, &name, own, of_pod)?;
    let traits = Traits {
        annotations: own
            .iter()
            .chain(of_pod)
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect(),
        has_mounts: !record.config.mounts.is_empty(),
    };
    hooks::inject(&settings.hooks_dirs, &mut made.spec, &traits)
}

/// What plugins want beyond what they could say in the spec. Blocking.
///
/// # Errors
/// A device or a class that isn't there.
pub(super) fn finish_adjusted(
    core: &Core,
    handler: &Handler,
    rest: &Rest,
    made: &mut ContainerSpec,
) -> Result<()> {
    core.cdi.inject(&mut made.spec, &rest.cdi_devices)?;
    match rest.blockio_class.as_deref() {
        None | Some("") => Ok(()),
        Some(class) => classes::apply_block_io(
            handler.settings.blockio_config_file.as_deref(),
            &mut made.spec,
            class,
        ),
    }
}
