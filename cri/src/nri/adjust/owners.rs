//! Who has set what: no two plugins may want the same field of a container to be different.
//!
//! A plugin that takes something away owns the field too, marked with a leading `-`: it alone may set it anew.

use crate::nri::NriError;
use crate::proto::nri::{CompoundFieldOwners, Field, FieldOwners, OwningPlugins};

/// What keys and owners begin with that take something away.
pub(in crate::nri) const REMOVAL: char = '-';

/// A key without its mark of removal, and whether it had one.
pub(in crate::nri) fn unmarked(key: &str) -> (&str, bool) {
    key.strip_prefix(REMOVAL).map_or((key, false), |key| (key, true))
}

/// Owners of the fields of containers, by id.
#[derive(Debug, Clone, Default)]
pub(in crate::nri) struct Owners(pub(in crate::nri) OwningPlugins);

impl Owners {
    /// Makes `plugin` the owner of a field, or of one key of it.
    ///
    /// # Errors
    /// [`NriError::Conflict`] where another has it.
    pub(super) fn claim(
        &mut self,
        container: &str,
        field: Field,
        key: Option<&str>,
        plugin: &str,
    ) -> Result<(), NriError> {
        let owner = self.owner(container, field, key);
        let (other, cleared) = owner.map_or(("", true), unmarked);
        if owner.is_some() && !(cleared && other == plugin) {
            return Err(NriError::Conflict {
                one: plugin.to_owned(),
                other: other.to_owned(),
                what: key.map_or_else(
                    || field.as_str_name().to_owned(),
                    |key| format!("{} {key:?}", field.as_str_name()),
                ),
            });
        }
        self.set(container, field, key, plugin.to_owned());
        Ok(())
    }

    /// `plugin` takes away whatever was there.
    pub(super) fn clear(&mut self, container: &str, field: Field, key: Option<&str>, plugin: &str) {
        self.set(container, field, key, format!("{REMOVAL}{plugin}"));
    }

    /// One more owner of a field that adds up.
    pub(super) fn join(&mut self, container: &str, field: Field, plugin: &str) {
        let all = match self.owner(container, field, None) {
            Some(others) => format!("{others},{plugin}"),
            None => plugin.to_owned(),
        };
        self.set(container, field, None, all);
    }

    /// The owner of a field, or of one key of it.
    pub(in crate::nri) fn owner(&self, container: &str, field: Field, key: Option<&str>) -> Option<&str> {
        let fields = self.0.owners.get(container)?;
        match key {
            None => fields.simple.get(&(field as i32)),
            Some(key) => fields.compound.get(&(field as i32))?.owners.get(key),
        }
        .map(String::as_str)
    }

    /// The owners of a field with keys, by key.
    pub(in crate::nri) fn of(&self, container: &str, field: Field) -> Option<&CompoundFieldOwners> {
        self.0.owners.get(container)?.compound.get(&(field as i32))
    }

    fn set(&mut self, container: &str, field: Field, key: Option<&str>, owner: String) {
        let fields: &mut FieldOwners = self.0.owners.entry(container.to_owned()).or_default();
        match key {
            None => fields.simple.insert(field as i32, owner),
            Some(key) => fields
                .compound
                .entry(field as i32)
                .or_default()
                .owners
                .insert(key.to_owned(), owner),
        };
    }
}
