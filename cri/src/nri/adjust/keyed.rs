//! Lists and maps whose entries have keys: mounts, devices, environment, annotations and the like. All merge the same way.

use std::collections::BTreeMap;

use super::owners::{Owners, unmarked};
use crate::nri::NriError;
use crate::proto::nri::{Field, KeyValue, LinuxDevice, LinuxNamespace, Mount};

/// An entry with a key; a leading `-` of the key takes the entry away.
pub(super) trait Keyed: Clone {
    /// The key, with its mark.
    fn key(&self) -> &str;
}

impl Keyed for Mount {
    fn key(&self) -> &str {
        &self.destination
    }
}

impl Keyed for LinuxDevice {
    fn key(&self) -> &str {
        &self.path
    }
}

impl Keyed for LinuxNamespace {
    fn key(&self) -> &str {
        &self.r#type
    }
}

impl Keyed for KeyValue {
    fn key(&self) -> &str {
        &self.key
    }
}

impl<V: Clone> Keyed for (String, V) {
    fn key(&self) -> &str {
        &self.0
    }
}

/// Where the entries of one plugin go.
pub(super) struct Target<'a> {
    /// The owners.
    pub(super) owners: &'a mut Owners,
    /// The container's id.
    pub(super) id: &'a str,
    /// The field.
    pub(super) field: Field,
    /// The plugin.
    pub(super) plugin: &'a str,
}

/// Adds a plugin's `entries` to what the plugins before it wanted (`merged`), and shows the next plugin the container as
/// it is then (`shown`).
///
/// # Errors
/// [`NriError::Conflict`].
pub(super) fn list<T: Keyed>(
    target: Target<'_>,
    entries: Vec<T>,
    merged: &mut Vec<T>,
    shown: &mut Vec<T>,
) -> Result<(), NriError> {
    let Target {
        owners,
        id,
        field,
        plugin,
    } = target;
    let (removals, additions): (Vec<T>, Vec<T>) =
        entries.into_iter().partition(|entry| unmarked(entry.key()).1);
    for removal in removals {
        let key = unmarked(removal.key()).0.to_owned();
        owners.clear(id, field, Some(&key), plugin);
        merged.retain(|entry| unmarked(entry.key()).0 != key);
        shown.retain(|entry| entry.key() != key);
        merged.push(removal);
    }
    for addition in additions {
        let key = addition.key();
        owners.claim(id, field, Some(key), plugin)?;
        // It takes the place of what it would have removed.
        merged.retain(|entry| unmarked(entry.key()).0 != key);
        shown.retain(|entry| entry.key() != key);
        shown.push(addition.clone());
        merged.push(addition);
    }
    Ok(())
}

/// As [`list`], for maps.
///
/// # Errors
/// [`NriError::Conflict`].
pub(super) fn map<V: Clone>(
    target: Target<'_>,
    entries: BTreeMap<String, V>,
    merged: &mut BTreeMap<String, V>,
    shown: &mut BTreeMap<String, V>,
) -> Result<(), NriError> {
    let pairs = |map: &mut BTreeMap<String, V>| std::mem::take(map).into_iter().collect::<Vec<_>>();
    let (mut all, mut seen) = (pairs(merged), pairs(shown));
    let done = list(target, entries.into_iter().collect(), &mut all, &mut seen);
    merged.extend(all);
    shown.extend(seen);
    done
}
