//! Hooks of a runtime spec, by the names of their stages.

use oci_spec::runtime::{Hook, Spec};

/// Adds a hook at the end of its stage.
///
/// # Errors
/// No stage has this name.
pub(crate) fn add(spec: &mut Spec, stage: &str, hook: Hook) -> Result<(), String> {
    let hooks = spec.hooks_mut().get_or_insert_default();
    let list = match stage {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        "poststop" => hooks.poststop_mut(),
        _ => return Err(format!("{stage:?}: no such stage of hooks")),
    };
    list.get_or_insert_default().push(hook);
    Ok(())
}
