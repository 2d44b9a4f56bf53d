//! All live objects of one kind by id, found also by an unambiguous prefix of it, as users of crictl expect.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What an index holds.
pub trait Indexed {
    /// The id of what the object belongs to, if to anything: a container's pod.
    fn owner(&self) -> Option<&str> {
        None
    }
}

type ById<T> = BTreeMap<String, Arc<T>>;

/// Objects by id, and by owner: a node may have hundreds of pods, and each event asks for the containers of one.
#[derive(Debug)]
pub struct Index<T> {
    maps: RwLock<Maps<T>>,
}

#[derive(Debug)]
struct Maps<T> {
    by_id: ById<T>,
    by_owner: HashMap<String, ById<T>>,
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
            maps: RwLock::new(Maps {
                by_id: BTreeMap::new(),
                by_owner: HashMap::new(),
            }),
        }
    }
}

impl<T: Indexed> Index<T> {
    /// Adds an object.
    pub fn insert(&self, id: &str, object: Arc<T>) {
        let mut maps = self.write();
        if let Some(owner) = object.owner() {
            let owned = maps.by_owner.entry(owner.to_owned()).or_default();
            owned.insert(id.to_owned(), Arc::clone(&object));
        }
        maps.by_id.insert(id.to_owned(), object);
    }

    /// Takes an object out.
    pub fn remove(&self, id: &str) -> Option<Arc<T>> {
        let mut maps = self.write();
        let object = maps.by_id.remove(id)?;
        if let Some(owner) = object.owner()
            && let Some(owned) = maps.by_owner.get_mut(owner)
        {
            owned.remove(id);
            if owned.is_empty() {
                maps.by_owner.remove(owner);
            }
        }
        Some(object)
    }

    /// The object of exactly this id.
    pub fn get(&self, id: &str) -> Option<Arc<T>> {
        self.read().by_id.get(id).cloned()
    }

    /// All objects, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Those that belong to `owner`, in the order of their ids.
    pub fn owned_by(&self, owner: &str) -> Vec<Arc<T>> {
        let maps = self.read();
        let owned = maps.by_owner.get(owner);
        owned.map_or_else(Vec::new, |owned| owned.values().cloned().collect())
    }

    /// The object whose id is, or begins with, `prefix`, among those that `visible` admits.
    pub fn find(&self, prefix: &str, visible: impl Fn(&T) -> bool) -> Lookup<T> {
        let maps = self.read();
        let mut hits = maps
            .by_id
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

    fn read(&self) -> RwLockReadGuard<'_, Maps<T>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps<T>> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Indexed for &str {
        /// What stands before a slash.
        fn owner(&self) -> Option<&str> {
            self.split_once('/').map(|(owner, _)| owner)
        }
    }

    #[test]
    fn objects_are_found_by_their_owners_until_they_are_taken_out() {
        let index = Index::default();
        for (id, object) in [("2", "a/2"), ("1", "a/1"), ("3", "b/3"), ("4", "nobody's")] {
            index.insert(id, Arc::new(object));
        }
        let owned = |owner: &str| index.owned_by(owner).iter().map(|o| **o).collect::<Vec<_>>();
        assert_eq!(owned("a"), ["a/1", "a/2"]);
        assert_eq!(owned("c"), [""; 0]);
        index.remove("1");
        assert_eq!(owned("a"), ["a/2"]);
        index.remove("2");
        index.remove("4");
        assert!(owned("a").is_empty());
        assert_eq!(index.read().by_owner.len(), 1);
        assert_eq!(index.all().len(), 1);
    }

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
