//! What the lists and the idempotent calls share.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Turns "no such object" into nothing to do.
///
/// # Errors
/// All others.
pub(super) fn unless_unknown<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `labels` has each pair of `selector`.
pub(super) fn labels_match(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether `id` is meant by a filter's id, which may be a prefix, or empty for all.
pub(super) fn id_matches(filter: &str, id: &str) -> bool {
    id.starts_with(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_joined_by_and() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let labels = map(&[("app", "web"), ("tier", "front")]);
        assert!(labels_match(&map(&[]), &labels));
        assert!(labels_match(&map(&[("app", "web"), ("tier", "front")]), &labels));
        assert!(!labels_match(&map(&[("app", "web"), ("tier", "back")]), &labels));
        assert!(!labels_match(&map(&[("absent", "")]), &labels));
    }
}
