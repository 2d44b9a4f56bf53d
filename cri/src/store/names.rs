//! Names that may be used once at a time: a pod's `name_namespace_uid_attempt` and a container's
//! `name_pod_namespace_uid_attempt`. A name is taken before the first side effect and freed with the object.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind, Result};

/// Which object holds which name.
#[derive(Debug)]
pub struct Names {
    kind: Kind,
    holders: Mutex<HashMap<String, String>>,
}

impl Names {
    /// Names of objects of one kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            holders: Mutex::default(),
        }
    }

    /// Takes `name` for the object `id`.
    ///
    /// # Errors
    /// [`Error::NameTaken`] while another object holds it.
    pub fn reserve(&self, name: &str, id: &str) -> Result<()> {
        match self.lock().entry(name.to_owned()) {
            Entry::Occupied(taken) if taken.get() != id => Err(Error::NameTaken {
                kind: self.kind,
                name: name.to_owned(),
                holder: taken.get().clone(),
            }),
            entry => {
                entry.or_insert_with(|| id.to_owned());
                Ok(())
            }
        }
    }

    /// The object that holds `name`.
    pub fn holder(&self, name: &str) -> Option<String> {
        self.lock().get(name).cloned()
    }

    /// Frees `name` if `id` holds it.
    pub fn release(&self, name: &str, id: &str) {
        let mut holders = self.lock();
        if holders.get(name).is_some_and(|holder| holder == id) {
            holders.remove(name);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_holder_who_alone_can_free_it() {
        let names = Names::new(Kind::Pod);
        names.reserve("web_default_uid_0", "a").unwrap();
        names.reserve("web_default_uid_0", "a").unwrap();
        assert!(
            matches!(names.reserve("web_default_uid_0", "b"), Err(Error::NameTaken { holder, .. }) if holder == "a")
        );
        names.release("web_default_uid_0", "b");
        assert_eq!(names.holder("web_default_uid_0").as_deref(), Some("a"));
        names.release("web_default_uid_0", "a");
        names.reserve("web_default_uid_0", "b").unwrap();
    }
}
