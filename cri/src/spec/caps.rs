//! Capabilities (capabilities(7)): a default set, changed by what the config adds and drops.

use std::collections::HashSet;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::SpecError;
use crate::{config::RuntimeConfig, proto};

/// Every capability of Linux 6.18, in the kernel's order.
pub const ALL: [Capability; 41] = {
    use Capability::*;
    [
        Chown,
        DacOverride,
        DacReadSearch,
        Fowner,
        Fsetid,
        Kill,
        Setgid,
        Setuid,
        Setpcap,
        LinuxImmutable,
        NetBindService,
        NetBroadcast,
        NetAdmin,
        NetRaw,
        IpcLock,
        IpcOwner,
        SysModule,
        SysRawio,
        SysChroot,
        SysPtrace,
        SysPacct,
        SysAdmin,
        SysBoot,
        SysNice,
        SysResource,
        SysTime,
        SysTtyConfig,
        Mknod,
        Lease,
        AuditWrite,
        AuditControl,
        Setfcap,
        MacOverride,
        MacAdmin,
        Syslog,
        WakeAlarm,
        BlockSuspend,
        AuditRead,
        Perfmon,
        Bpf,
        CheckpointRestore,
    ]
};

/// The capability of this name, in any case, with or without `CAP_`.
pub fn parse(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    ALL.into_iter().find(|capability| capability.to_string() == bare)
}

/// The five sets of a container's first process.
///
/// `ALL` in either list comes first, then single additions, then single removals. What the daemon itself lacks (`node`)
/// can't be given. Inheritable stays empty, as ambient does unless the config names ambient capabilities.
pub(super) fn capabilities(
    config: Option<&proto::Capability>,
    privileged: bool,
    node: &[Capability],
    settings: &RuntimeConfig,
) -> Result<LinuxCapabilities, SpecError> {
    let node: Capabilities = node.iter().copied().collect();
    if privileged {
        return Ok(sets(&node, &HashSet::new()));
    }
    let none = proto::Capability::default();
    let config = config.unwrap_or(&none);
    let (add_all, add) = names("capabilities.add_capabilities", &config.add_capabilities)?;
    let (drop_all, drop) = names("capabilities.drop_capabilities", &config.drop_capabilities)?;
    let (ambient_all, ambient) = names(
        "capabilities.add_ambient_capabilities",
        &config.add_ambient_capabilities,
    )?;

    let mut set: Capabilities = settings.default_capabilities.iter().copied().collect();
    if add_all {
        set.extend(ALL);
    }
    if drop_all {
        set.clear();
    }
    set.extend(&add);
    for capability in &drop {
        set.remove(capability);
    }
    let mut ambient: Capabilities = if ambient_all {
        ALL.into_iter().collect()
    } else {
        ambient
    };
    set.extend(&ambient);

    set.retain(|capability| node.contains(capability));
    ambient.retain(|capability| node.contains(capability));
    Ok(sets(&set, &ambient))
}

fn sets(set: &Capabilities, ambient: &Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_inheritable(Some(ambient.clone()))
        .set_ambient(Some(ambient.clone()));
    sets
}

/// Whether `ALL` is among the names, and the others.
fn names(field: &'static str, names: &[String]) -> Result<(bool, Capabilities), SpecError> {
    let mut all = false;
    let mut set = Capabilities::new();
    for name in names {
        if name.eq_ignore_ascii_case("ALL") {
            all = true;
        } else {
            set.insert(parse(name).ok_or_else(|| SpecError::invalid(field, name, "no such capability"))?);
        }
    }
    Ok((all, set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn result(add: &[&str], drop: &[&str], ambient: &[&str]) -> LinuxCapabilities {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let config = proto::Capability {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            add_ambient_capabilities: list(ambient),
        };
        capabilities(
            Some(&config),
            false,
            &ALL,
            Config::from_toml("").unwrap().runtime(),
        )
        .unwrap()
    }

    fn bounding(add: &[&str], drop: &[&str]) -> Capabilities {
        result(add, drop, &[]).bounding().clone().unwrap()
    }

    #[test]
    fn every_name_is_known_in_every_spelling() {
        for capability in ALL {
            let name = capability.to_string();
            for spelling in [
                name.clone(),
                name.to_lowercase(),
                format!("CAP_{name}"),
                format!("cap_{name}"),
            ] {
                assert_eq!(parse(&spelling), Some(capability), "{spelling}");
            }
        }
        assert_eq!(parse("FLY"), None);
        assert_eq!(parse("ALL"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn all_comes_before_single_names() {
        let all_but_chown = bounding(&["all"], &["CHOWN"]);
        assert_eq!(all_but_chown.len(), ALL.len() - 1);
        assert!(!all_but_chown.contains(&Capability::Chown));
        assert_eq!(
            bounding(&["NET_ADMIN"], &["ALL"]),
            HashSet::from([Capability::NetAdmin])
        );
        assert_eq!(bounding(&["NET_ADMIN"], &["NET_ADMIN"]).len(), 14);
        assert_eq!(bounding(&[], &[]).len(), 14);
    }

    #[test]
    fn only_ambient_capabilities_are_inheritable() {
        let plain = result(&["SYS_TIME"], &[], &[]);
        assert_eq!(plain.inheritable().as_ref().unwrap().len(), 0);
        assert_eq!(plain.ambient().as_ref().unwrap().len(), 0);
        let ambient = result(&[], &["ALL"], &["NET_BIND_SERVICE"]);
        let only = HashSet::from([Capability::NetBindService]);
        for set in [
            ambient.bounding(),
            ambient.effective(),
            ambient.permitted(),
            ambient.inheritable(),
            ambient.ambient(),
        ] {
            assert_eq!(set.as_ref().unwrap(), &only);
        }
    }

    #[test]
    fn what_the_daemon_lacks_is_not_given() {
        let settings = Config::from_toml("").unwrap();
        let node = [Capability::Chown, Capability::Kill];
        for privileged in [false, true] {
            let sets = capabilities(None, privileged, &node, settings.runtime()).unwrap();
            assert_eq!(sets.bounding().as_ref().unwrap(), &HashSet::from(node));
        }
    }
}
