//! An image's users and groups: passwd(5) and group(5), and a small cache of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;

/// The users and groups of an image. Lines that aren't entries are passed over, as libc does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Files")]
pub struct UserDatabase {
    accounts: Vec<Account>,
    groups: Vec<Group>,
}

/// What is known of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    /// None for a number that passwd doesn't have, as the others.
    pub(super) name: Option<String>,
    pub(super) gid: Option<u32>,
    pub(super) home: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The two files' text.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Files {
    passwd: String,
    group: String,
}

impl From<Files> for UserDatabase {
    fn from(files: Files) -> Self {
        Self::parse(&files.passwd, &files.group)
    }
}

impl UserDatabase {
    /// Reads the text of `/etc/passwd` and `/etc/group`; empty text where there is no such file.
    pub fn parse(passwd: &str, group: &str) -> Self {
        Self {
            accounts: passwd.lines().filter_map(account).collect(),
            groups: group.lines().filter_map(group_line).collect(),
        }
    }

    pub(super) fn by_name(&self, name: &str) -> Option<Account> {
        self.accounts
            .iter()
            .find(|account| account.name.as_deref() == Some(name))
            .cloned()
    }

    /// A number is a user also without an entry.
    pub(super) fn by_uid(&self, uid: u32) -> Account {
        let known = self.accounts.iter().find(|account| account.uid == uid);
        known.cloned().unwrap_or(Account {
            uid,
            ..Account::default()
        })
    }

    pub(super) fn group(&self, name: &str) -> Option<u32> {
        self.groups
            .iter()
            .find(|group| group.name == name)
            .map(|group| group.gid)
    }

    /// The groups that list this user as a member.
    pub(super) fn groups_of(&self, name: &str) -> impl Iterator<Item = u32> {
        self.groups
            .iter()
            .filter(move |group| group.members.iter().any(|m| m == name))
            .map(|group| group.gid)
    }
}

fn account(line: &str) -> Option<Account> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty()).map(str::to_owned);
    Some(Account {
        uid,
        name: Some(name.to_owned()),
        gid: Some(gid),
        home,
    })
}

fn group_line(line: &str) -> Option<Group> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields
        .next()
        .unwrap_or_default()
        .split(',')
        .map(|member| member.trim().to_owned());
    Some(Group {
        name: name.to_owned(),
        gid,
        members: members.filter(|member| !member.is_empty()).collect(),
    })
}

/// The user databases of images in use, by image id. It holds a bounded number and forgets any when it is full.
#[derive(Debug, Default)]
pub struct UserDbCache(Mutex<HashMap<String, Arc<UserDatabase>>>);

impl UserDbCache {
    const CAPACITY: usize = 128;

    /// The image's users, read by `load` the first time. Nothing is locked meanwhile.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn get_or_load<E>(
        &self,
        image_id: &str,
        load: impl FnOnce() -> Result<UserDatabase, E>,
    ) -> Result<Arc<UserDatabase>, E> {
        if let Some(known) = self.lock().get(image_id) {
            return Ok(Arc::clone(known));
        }
        let loaded = Arc::new(load()?);
        let mut map = self.lock();
        if map.len() >= Self::CAPACITY {
            map.clear();
        }
        Ok(Arc::clone(map.entry(image_id.to_owned()).or_insert(loaded)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<UserDatabase>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_are_passed_over() {
        let users = UserDatabase::parse(
            "root:x:0:0:root:/root:/bin/sh\n\n# no\n+::::::\nbad:x:-1:0::/:\nshort:x:7\nlast:x:8:9",
            "root:x:0:\nbad:x:no:\nwheel:x:10:root, last ,\n:x:3:root",
        );
        assert_eq!(users.accounts.len(), 2);
        assert_eq!(users.by_name("last").unwrap().gid, Some(9));
        assert_eq!(users.by_uid(0).home.as_deref(), Some("/root"));
        assert_eq!(users.by_uid(77).name, None);
        assert_eq!(users.group("wheel"), Some(10));
        assert_eq!(users.groups_of("last").collect::<Vec<_>>(), [10]);
        assert_eq!(users.group("bad"), None);
    }

    #[test]
    fn an_image_is_read_once() {
        let cache = UserDbCache::default();
        let load = || Ok::<_, ()>(UserDatabase::parse("a:x:1:1::/:", ""));
        let first = cache.get_or_load("i", load).unwrap();
        let again = cache
            .get_or_load("i", || Err::<UserDatabase, _>("read again"))
            .unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(cache.get_or_load("j", || Err::<UserDatabase, _>(())).is_err());
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = UserDbCache::default();
        for i in 0..1000 {
            cache
                .get_or_load(&i.to_string(), || Ok::<_, ()>(UserDatabase::default()))
                .unwrap();
        }
        assert!(cache.lock().len() <= UserDbCache::CAPACITY);
    }
}
