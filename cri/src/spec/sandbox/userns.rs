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

/// Whoever the host has no id for: the kernel's overflow id.
const NOBODY: u32 = 65534;

/// How the ids of a pod's containers lie on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserIds {
    /// First user and first group on the host, with the number of each; None for a pod without a user namespace.
    ranges: Option<[(u32, u32); 2]>,
}

impl UserIds {
    pub(crate) fn new(options: &NamespaceOption) -> Self {
        let range = |mappings: &[IdMapping]| mappings.first().map(|m| (m.host_id, m.length));
        let ranges =
            user_namespace(options).and_then(|userns| Some([range(&userns.uids)?, range(&userns.gids)?]));
        Self { ranges }
    }

    /// Whether the pod has a user namespace.
    pub fn are_mapped(self) -> bool {
        self.ranges.is_some()
    }

    /// The host's ids of the pod's root.
    pub fn root(self) -> (u32, u32) {
        self.on_host(0, 0)
    }

    /// The host's ids of a user and a group of the pod; those without a mapping are nobody's.
    pub fn on_host(self, uid: u32, gid: u32) -> (u32, u32) {
        let Some([uids, gids]) = self.ranges else {
            return (uid, gid);
        };
        let shift = |(first, length): (u32, u32), id: u32| if id < length { first + id } else { NOBODY };
        (shift(uids, uid), shift(gids, gid))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shifted_into_the_pod_s_range() {
        let range = |host_id| {
            vec![IdMapping {
                host_id,
                container_id: 0,
                length: 65536,
            }]
        };
        let options = NamespaceOption {
            userns_options: Some(UserNamespace {
                mode: Mode::Pod.into(),
                uids: range(100_000),
                gids: range(200_000),
            }),
            ..Default::default()
        };
        let ids = UserIds::new(&options);
        assert!(ids.are_mapped());
        assert_eq!(ids.root(), (100_000, 200_000));
        assert_eq!(ids.on_host(65535, 65536), (165_535, NOBODY));
        let none = UserIds::new(&NamespaceOption::default());
        assert_eq!((none.are_mapped(), none.on_host(7, 8)), (false, (7, 8)));
    }
}
