//! Whom a container runs as: the config's user, else the image's, resolved in the image's passwd and group.

use std::collections::BTreeSet;

use oci_spec::{image::ImageConfiguration, runtime::User};

use super::{
    SpecError,
    users::{Account, UserDatabase},
};
use crate::proto::{
    IdMapping, LinuxContainerSecurityContext, LinuxContainerUser, SupplementalGroupsPolicy, UserNamespace,
};

/// A resolved user; the ids are those inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups of the process, with the primary one.
    pub(super) groups: BTreeSet<u32>,
    /// From passwd; `/` for users that aren't there.
    pub(super) home: String,
}

impl Identity {
    /// As the runtime spec has it.
    pub(super) fn to_oci(&self) -> User {
        let mut user = User::default();
        user.set_uid(self.uid)
            .set_gid(self.gid)
            .set_additional_gids(Some(self.groups.iter().copied().collect()));
        user
    }

    /// As ContainerStatus reports it.
    pub(super) fn to_status(&self) -> LinuxContainerUser {
        LinuxContainerUser {
            uid: self.uid.into(),
            gid: self.gid.into(),
            supplemental_groups: self.groups.iter().map(|gid| i64::from(*gid)).collect(),
        }
    }
}

/// Resolves the user of a container.
pub(super) fn identity(
    security: &LinuxContainerSecurityContext,
    image: &ImageConfiguration,
    users: &UserDatabase,
) -> Result<Identity, SpecError> {
    let (account, image_group) = match requested(security, users)? {
        // A user of the request's own leaves the image's group aside.
        Some(account) => (account, None),
        None => of_image(image, users)?,
    };
    let gid = match &security.run_as_group {
        Some(gid) => id("run_as_group", gid.value)?,
        None => image_group.or(account.gid).unwrap_or(0),
    };
    let mut groups = BTreeSet::from([gid]);
    for group in &security.supplemental_groups {
        groups.insert(id("supplemental_groups", *group)?);
    }
    match SupplementalGroupsPolicy::try_from(security.supplemental_groups_policy) {
        Ok(SupplementalGroupsPolicy::Merge) => {
            groups.extend(account.name.iter().flat_map(|name| users.groups_of(name)));
        }
        Ok(SupplementalGroupsPolicy::Strict) => {}
        Err(_) => {
            let value = security.supplemental_groups_policy;
            return Err(SpecError::invalid(
                "supplemental_groups_policy",
                value,
                "no such policy",
            ));
        }
    }
    let home = account
        .home
        .filter(|home| home.starts_with('/'))
        .unwrap_or_else(|| "/".to_owned());
    Ok(Identity {
        uid: account.uid,
        gid,
        groups,
        home,
    })
}

/// Ids that the pod's user namespace doesn't have can't be taken on.
pub(super) fn check_mapped(identity: &Identity, userns: &UserNamespace) -> Result<(), SpecError> {
    let has = |mappings: &[IdMapping], id: u32| {
        mappings.iter().any(|m| {
            id.checked_sub(m.container_id)
                .is_some_and(|offset| offset < m.length)
        })
    };
    if !has(&userns.uids, identity.uid) {
        return Err(SpecError::invalid(
            "user id",
            identity.uid,
            "not mapped in the pod's user namespace",
        ));
    }
    match identity.groups.iter().find(|gid| !has(&userns.gids, **gid)) {
        Some(gid) => Err(SpecError::invalid(
            "group id",
            gid,
            "not mapped in the pod's user namespace",
        )),
        None => Ok(()),
    }
}

fn requested(
    security: &LinuxContainerSecurityContext,
    users: &UserDatabase,
) -> Result<Option<Account>, SpecError> {
    let name = security.run_as_username.as_str();
    match &security.run_as_user {
        Some(_) if !name.is_empty() => Err(SpecError::invalid(
            "run_as_username",
            name,
            "excludes run_as_user, which is also given",
        )),
        Some(uid) => Ok(Some(users.by_uid(id("run_as_user", uid.value)?))),
        None if !name.is_empty() => by_name("run_as_username", name, users).map(Some),
        None => match &security.run_as_group {
            Some(group) => {
                let reason = "needs run_as_user or run_as_username";
                Err(SpecError::invalid("run_as_group", group.value, reason))
            }
            None => Ok(None),
        },
    }
}

/// The image's `user[:group]`, each a name or a number; root where it says nothing.
fn of_image(image: &ImageConfiguration, users: &UserDatabase) -> Result<(Account, Option<u32>), SpecError> {
    const FIELD: &str = "the image's User";
    let text = image
        .config()
        .as_ref()
        .and_then(|i| i.user().as_deref())
        .unwrap_or_default();
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let account = match user {
        "" => users.by_uid(0),
        // A name may look like a number.
        name => match (users.by_name(name), name.parse()) {
            (Some(account), _) => account,
            (None, Ok(uid)) => users.by_uid(id(FIELD, uid)?),
            (None, Err(_)) => by_name(FIELD, name, users)?,
        },
    };
    let gid = match group {
        "" => None,
        name => Some(match (users.group(name), name.parse()) {
            (Some(gid), _) => gid,
            (None, Ok(gid)) => id(FIELD, gid)?,
            (None, Err(_)) => {
                return Err(SpecError::UnknownName {
                    field: FIELD,
                    name: name.to_owned(),
                    kind: "group",
                });
            }
        }),
    };
    Ok((account, gid))
}

fn by_name(field: &'static str, name: &str, users: &UserDatabase) -> Result<Account, SpecError> {
    users.by_name(name).ok_or_else(|| SpecError::UnknownName {
        field,
        name: name.to_owned(),
        kind: "user",
    })
}

/// User and group ids; the largest `u32` means "no id" to the kernel.
fn id(field: &'static str, value: i64) -> Result<u32, SpecError> {
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(SpecError::invalid(
            field,
            value,
            "not an id: expected 0 to 4294967294",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto::Int64Value, spec::testing::image};

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home/web:\n1234:x:55:56::rel:\n";
    const GROUP: &str = "web:x:1000:\nstaff:x:50000:web,root\nadm:x:4:root\n";

    fn resolve(security: &LinuxContainerSecurityContext, user: &str) -> Result<Identity, SpecError> {
        let users = UserDatabase::parse(PASSWD, GROUP);
        identity(security, &image(&serde_json::json!({ "User": user })), &users)
    }

    fn ids(security: &LinuxContainerSecurityContext, user: &str) -> (u32, u32, Vec<u32>) {
        let identity = resolve(security, user).unwrap();
        (identity.uid, identity.gid, identity.groups.into_iter().collect())
    }

    fn int(value: i64) -> Option<Int64Value> {
        Some(Int64Value { value })
    }

    #[test]
    fn the_image_s_user() {
        let none = LinuxContainerSecurityContext::default();
        for (user, want) in [
            ("", (0, 0, vec![0, 4, 50000])),
            ("web", (1000, 1000, vec![1000, 50000])),
            ("1000", (1000, 1000, vec![1000, 50000])),
            ("web:adm", (1000, 4, vec![4, 50000])),
            ("77", (77, 0, vec![0])),
            ("77:88", (77, 88, vec![88])),
            (":88", (0, 88, vec![4, 88, 50000])),
            ("1234", (55, 56, vec![56])),
        ] {
            assert_eq!(ids(&none, user), want, "{user}");
        }
        for user in ["nobody", "web:none", "-1", "4294967295", "99999999999"] {
            assert!(resolve(&none, user).is_err(), "{user}");
        }
    }

    #[test]
    fn the_request_s_user_goes_before_the_image_s() {
        let mut security = LinuxContainerSecurityContext {
            run_as_user: int(1000),
            ..Default::default()
        };
        assert_eq!(ids(&security, "root:adm"), (1000, 1000, vec![1000, 50000]));
        security.run_as_group = int(7);
        assert_eq!(ids(&security, "root:adm"), (1000, 7, vec![7, 50000]));
        security = LinuxContainerSecurityContext {
            run_as_username: "web".to_owned(),
            ..Default::default()
        };
        assert_eq!(ids(&security, ""), (1000, 1000, vec![1000, 50000]));
        security.run_as_username = "ghost".to_owned();
        assert_eq!(
            resolve(&security, "").unwrap_err().to_string(),
            "run_as_username \"ghost\": no such user in the image"
        );
    }

    #[test]
    fn the_policy_decides_about_the_image_s_groups() {
        let mut security = LinuxContainerSecurityContext {
            run_as_user: int(1000),
            supplemental_groups: vec![1234],
            ..Default::default()
        };
        assert_eq!(ids(&security, "").2, [1000, 1234, 50000]);
        security.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
        assert_eq!(ids(&security, "").2, [1000, 1234]);
        security.supplemental_groups_policy = 9;
        assert!(resolve(&security, "").is_err());
    }

    #[test]
    fn contradictions_are_refused() {
        let mut security = LinuxContainerSecurityContext {
            run_as_group: int(5),
            ..Default::default()
        };
        assert_eq!(
            resolve(&security, "web").unwrap_err().to_string(),
            "run_as_group \"5\": needs run_as_user or run_as_username"
        );
        security.run_as_user = int(-1);
        assert!(resolve(&security, "").is_err());
        security.run_as_user = int(1);
        security.run_as_username = "web".to_owned();
        assert!(resolve(&security, "").is_err());
        let groups = LinuxContainerSecurityContext {
            supplemental_groups: vec![-3],
            ..Default::default()
        };
        assert!(resolve(&groups, "").is_err());
    }

    #[test]
    fn the_home_is_absolute() {
        let none = LinuxContainerSecurityContext::default();
        assert_eq!(resolve(&none, "web").unwrap().home, "/home/web");
        assert_eq!(resolve(&none, "1234").unwrap().home, "/");
        assert_eq!(resolve(&none, "77").unwrap().home, "/");
    }
}
