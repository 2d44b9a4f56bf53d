//! All live objects of one kind by id, found also by an unambiguous prefix of it, as users of crictl expect.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Objects by id.
#[derive(Debug)]
pub struct Index<T> {
    by_id: RwLock<BTreeMap<String, Arc<T>>>,
}

/// What an id or a prefix of one stands for.
#[derive(Debug)]
pub enum Lookup<T> {
    /// Exactly this object.
    Found(Arc<T>),
    /// Nothing.
    Unknown,
    /// More than one object.
    Ambiguous,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            by_id: RwLock::default(),
        }
    }
}

impl<T> Index<T> {
    /// Adds an object.
    pub fn insert(&self, id: &str, object: Arc<T>) {
        self.by_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned(), object);
    }

    /// Takes an object out.
    pub fn remove(&self, id: &str) -> Option<Arc<T>> {
        self.by_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }

    /// The object of exactly this id.
    pub fn get(&self, id: &str) -> Option<Arc<T>> {
        self.read().get(id).cloned()
    }

    /// All objects, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.read().values().cloned().collect()
    }

    /// Those that `wanted` admits, in the order of their ids.
    pub fn matching(&self, wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        self.read()
            .values()
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }

    /// The object whose id is, or begins with, `prefix`, among those that `visible` admits.
    pub fn find(&self, prefix: &str, visible: impl Fn(&T) -> bool) -> Lookup<T> {
        let map = self.read();
        let mut hits = map
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(id, _)| id.starts_with(prefix))
            .filter(|(_, object)| visible(object));
        match (hits.next(), hits.next()) {
            (None, _) => Lookup::Unknown,
            // An exact id sorts before every longer one that it begins.
            (Some((id, object)), _) if id == prefix => Lookup::Found(Arc::clone(object)),
            (Some((_, object)), None) => Lookup::Found(Arc::clone(object)),
            (Some(_), Some(_)) => Lookup::Ambiguous,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<T>>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_find_one_object_or_say_why_not() {
        let index = Index::default();
        for id in ["aa1", "aa2", "ab", "abc"] {
            index.insert(id, Arc::new(id));
        }
        let find = |p: &str| index.find(p, |_| true);
        assert!(matches!(find("aa1"), Lookup::Found(o) if *o == "aa1"));
        assert!(matches!(find("aa"), Lookup::Ambiguous));
        assert!(matches!(find("ab"), Lookup::Found(o) if *o == "ab"));
        assert!(matches!(find("abcd"), Lookup::Unknown));
        assert!(matches!(index.find("aa", |o| *o != "aa1"), Lookup::Found(o) if *o == "aa2"));
    }
}
