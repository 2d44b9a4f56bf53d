//! Seccomp, AppArmor, and the paths that are hidden or read-only.

use std::path::PathBuf;

use super::{NodeFacts, SpecError, SpecInput};
use crate::{
    config::RuntimeConfig,
    proto::{LinuxContainerSecurityContext, SecurityProfile, security_profile::ProfileType},
};

/// Name of the AppArmor profile that the daemon loads for RuntimeDefault.
pub const APPARMOR_DEFAULT: &str = "pintle-default";

/// Which seccomp profile applies; the profile itself is the caller's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    Unconfined,
    /// The runtime's own, for the container's capabilities.
    RuntimeDefault,
    /// The JSON file at this absolute path.
    Localhost(PathBuf),
}

/// The seccomp profile of a container. Privileged containers never have one.
pub(super) fn seccomp(
    security: &LinuxContainerSecurityContext,
    privileged: bool,
    settings: &RuntimeConfig,
) -> Result<Seccomp, SpecError> {
    #[expect(deprecated, reason = "older clients send it")]
    let old = security.seccomp_profile_path.as_str();
    let profile = match &security.seccomp {
        Some(profile) => Some(profile.clone()),
        None => old_style("seccomp_profile_path", old)?,
    };
    let Some(profile) = profile else {
        let default = settings.seccomp_default && !privileged;
        return Ok(if default {
            Seccomp::RuntimeDefault
        } else {
            Seccomp::Unconfined
        });
    };
    let choice = match profile_type("seccomp.profile_type", &profile)? {
        ProfileType::RuntimeDefault => Seccomp::RuntimeDefault,
        ProfileType::Unconfined => Seccomp::Unconfined,
        ProfileType::Localhost => Seccomp::Localhost(profile_path(local(&profile))?),
    };
    Ok(if privileged { Seccomp::Unconfined } else { choice })
}

/// The name of a container's AppArmor profile; None where it has none.
pub(super) fn apparmor(
    security: &LinuxContainerSecurityContext,
    privileged: bool,
    node: &NodeFacts,
    loaded: &[String],
) -> Result<Option<String>, SpecError> {
    #[expect(deprecated, reason = "older clients send it")]
    let old = security.apparmor_profile.as_str();
    let profile = match &security.apparmor {
        Some(profile) => Some(profile.clone()),
        None => old_style("apparmor_profile", old)?,
    };
    let Some(profile) = profile else {
        return Ok((node.apparmor && !privileged).then(|| APPARMOR_DEFAULT.to_owned()));
    };
    let kind = profile_type("apparmor.profile_type", &profile)?;
    if kind == ProfileType::Unconfined {
        return Ok(node.apparmor.then(|| "unconfined".to_owned()));
    }
    if !node.apparmor {
        let (field, value) = ("apparmor.profile_type", kind.as_str_name().to_owned());
        return Err(SpecError::Unsupported {
            field,
            value,
            reason: "AppArmor is not enabled on this node",
        });
    }
    let name = match kind {
        ProfileType::Localhost => local(&profile),
        ProfileType::RuntimeDefault | ProfileType::Unconfined => APPARMOR_DEFAULT,
    };
    if kind == ProfileType::Localhost && !loaded.iter().any(|profile| profile == name) {
        return Err(SpecError::invalid(
            "apparmor.localhost_ref",
            name,
            "no such profile is loaded on this node",
        ));
    }
    Ok(Some(if privileged { "unconfined" } else { name }.to_owned()))
}

/// Masked and read-only paths: exactly those given, and none for privileged containers.
pub(super) fn hidden_paths(
    input: &SpecInput<'_>,
    privileged: bool,
) -> Result<(Vec<String>, Vec<String>), SpecError> {
    let security = super::security_context(input.config);
    for (field, paths) in [
        ("masked_paths", &security.masked_paths),
        ("readonly_paths", &security.readonly_paths),
    ] {
        if let Some(path) = paths
            .iter()
            .find(|path| !path.starts_with('/') || path.contains('\0'))
        {
            return Err(SpecError::invalid(field, path, "expected an absolute path"));
        }
    }
    if privileged {
        return Ok((Vec::new(), Vec::new()));
    }
    Ok((security.masked_paths.clone(), security.readonly_paths.clone()))
}

/// `runtime/default`, `docker/default`, `unconfined`, `localhost/…`; empty for none.
fn old_style(field: &'static str, text: &str) -> Result<Option<SecurityProfile>, SpecError> {
    let profile = |kind: ProfileType, name: &str| {
        Ok(Some(SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: name.to_owned(),
        }))
    };
    match text {
        "" => Ok(None),
        "runtime/default" | "docker/default" => profile(ProfileType::RuntimeDefault, ""),
        "unconfined" => profile(ProfileType::Unconfined, ""),
        _ => match text.strip_prefix("localhost/") {
            Some(name) => profile(ProfileType::Localhost, name),
            None => Err(SpecError::invalid(field, text, "no such profile")),
        },
    }
}

fn profile_type(field: &'static str, profile: &SecurityProfile) -> Result<ProfileType, SpecError> {
    let value = profile.profile_type;
    ProfileType::try_from(value).map_err(|_| SpecError::invalid(field, value, "no such type"))
}

/// What a profile of the node's is called. Some clients put the old fields' prefix before it here as well.
fn local(profile: &SecurityProfile) -> &str {
    let name = profile.localhost_ref.as_str();
    name.strip_prefix("localhost/").unwrap_or(name)
}

fn profile_path(text: &str) -> Result<PathBuf, SpecError> {
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(SpecError::invalid(
        "seccomp.localhost_ref",
        text,
        "expected an absolute path",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, spec::testing::node};

    fn profile(kind: ProfileType, name: &str) -> Option<SecurityProfile> {
        Some(SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: name.to_owned(),
        })
    }

    fn with_seccomp(seccomp: Option<SecurityProfile>) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            seccomp,
            ..Default::default()
        }
    }

    #[test]
    fn seccomp_as_asked_for() {
        let settings = Config::from_toml("").unwrap();
        let of = |s: &LinuxContainerSecurityContext| seccomp(s, false, settings.runtime());
        assert_eq!(of(&with_seccomp(None)), Ok(Seccomp::Unconfined));
        assert_eq!(
            of(&with_seccomp(profile(ProfileType::RuntimeDefault, ""))),
            Ok(Seccomp::RuntimeDefault)
        );
        assert_eq!(
            of(&with_seccomp(profile(ProfileType::Unconfined, ""))),
            Ok(Seccomp::Unconfined)
        );
        let local = with_seccomp(profile(ProfileType::Localhost, "/p.json"));
        assert_eq!(of(&local), Ok(Seccomp::Localhost("/p.json".into())));
        assert_eq!(seccomp(&local, true, settings.runtime()), Ok(Seccomp::Unconfined));
        assert!(of(&with_seccomp(profile(ProfileType::Localhost, "p.json"))).is_err());
        let unknown = SecurityProfile {
            profile_type: 7,
            ..Default::default()
        };
        assert!(of(&with_seccomp(Some(unknown))).is_err());
    }

    #[test]
    #[expect(deprecated, reason = "older clients send it")]
    fn the_old_seccomp_field_yields_to_the_new() {
        let settings = Config::from_toml("").unwrap();
        let mut security = with_seccomp(None);
        for (text, want) in [
            ("runtime/default", Seccomp::RuntimeDefault),
            ("unconfined", Seccomp::Unconfined),
            ("localhost//p", Seccomp::Localhost("/p".into())),
        ] {
            security.seccomp_profile_path = text.to_owned();
            assert_eq!(seccomp(&security, false, settings.runtime()), Ok(want));
        }
        security.seccomp = profile(ProfileType::RuntimeDefault, "");
        assert_eq!(
            seccomp(&security, false, settings.runtime()),
            Ok(Seccomp::RuntimeDefault)
        );
        security = with_seccomp(None);
        security.seccomp_profile_path = "nonsense".to_owned();
        assert!(seccomp(&security, false, settings.runtime()).is_err());
    }

    #[test]
    fn the_default_for_unset_profiles_is_a_setting() {
        let config = Config::from_toml("[runtime]\nseccomp_default = \"runtime-default\"").unwrap();
        assert_eq!(
            seccomp(&with_seccomp(None), false, config.runtime()),
            Ok(Seccomp::RuntimeDefault)
        );
        assert_eq!(
            seccomp(&with_seccomp(None), true, config.runtime()),
            Ok(Seccomp::Unconfined)
        );
    }

    #[test]
    fn apparmor_with_and_without_the_kernel_s_help() {
        let on = NodeFacts {
            apparmor: true,
            ..node()
        };
        let of = |profile, privileged, node: &NodeFacts| {
            let security = LinuxContainerSecurityContext {
                apparmor: profile,
                ..Default::default()
            };
            apparmor(&security, privileged, node, &["mine".to_owned()])
        };
        let name = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(of(None, false, &node()), Ok(None));
        assert_eq!(of(None, false, &on), name(APPARMOR_DEFAULT));
        assert_eq!(of(None, true, &on), Ok(None));
        assert_eq!(of(profile(ProfileType::Unconfined, ""), false, &node()), Ok(None));
        assert_eq!(
            of(profile(ProfileType::Localhost, "mine"), false, &on),
            name("mine")
        );
        assert_eq!(
            of(profile(ProfileType::Localhost, "localhost/mine"), false, &on),
            name("mine")
        );
        assert_eq!(
            of(profile(ProfileType::Localhost, "mine"), true, &on),
            name("unconfined")
        );
        assert!(of(profile(ProfileType::Localhost, "other"), false, &on).is_err());
        assert!(of(profile(ProfileType::RuntimeDefault, ""), false, &node()).is_err());
        assert!(of(profile(ProfileType::Localhost, "mine"), false, &node()).is_err());
    }
}
