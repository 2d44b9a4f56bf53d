//! A pod's user namespace (user_namespaces(7)).

use super::SpecError;
use crate::proto::{IdMapping, NamespaceMode as Mode, NamespaceOption, UserNamespace};

/// The user namespace that the pod has; None for the host's.
pub(in crate::spec) fn user_namespace(options: &NamespaceOption) -> Option<&UserNamespace> {
    options
        .userns_options
        .as_ref()
        .filter(|userns| userns.mode() == Mode::Pod)
}

/// POD has one mapping of users and one of groups, each from 0 on; NODE has none; the others there aren't.
pub(in crate::spec) fn validate_user_namespace(userns: &UserNamespace) -> Result<(), SpecError> {
    const FIELD: &str = "userns_options.mode";
    let mode =
        Mode::try_from(userns.mode).map_err(|_| SpecError::invalid(FIELD, userns.mode, "no such mode"))?;
    match mode {
        Mode::Pod => {
            validate_mapping("userns_options.uids", &userns.uids)?;
            validate_mapping("userns_options.gids", &userns.gids)
        }
        Mode::Node if userns.uids.is_empty() && userns.gids.is_empty() => Ok(()),
        Mode::Node => Err(SpecError::invalid(
            FIELD,
            mode.as_str_name(),
            "has no uids and no gids",
        )),
        Mode::Container | Mode::Target => Err(SpecError::invalid(
            FIELD,
            mode.as_str_name(),
            "expected POD or NODE",
        )),
    }
}

fn validate_mapping(field: &'static str, mappings: &[IdMapping]) -> Result<(), SpecError> {
    let [mapping] = mappings else {
        let count = mappings.len();
        return Err(SpecError::invalid(
            field,
            count,
            "number of mappings: expected exactly one",
        ));
    };
    if mapping.container_id != 0 {
        return Err(SpecError::invalid(
            field,
            mapping.container_id,
            "container_id: expected 0",
        ));
    }
    if mapping.length == 0 || mapping.host_id.checked_add(mapping.length).is_none() {
        return Err(SpecError::invalid(
            field,
            mapping.length,
            "length: expected 1 or more ids below 4294967295",
        ));
    }
    Ok(())
}
