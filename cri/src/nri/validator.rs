//! What the administrator forbids plugins (`nri.default_validator`), and which plugins there must be.

use super::adjust::owners::Owners;
use crate::config::ValidatorConfig;
use crate::proto::nri::{Container, Field, PodSandbox, SecurityProfile, security_profile::ProfileType};

/// The annotation of pods that names more plugins that there must be, as a list in YAML.
const REQUIRED: &str = "required-plugins.noderesource.dev";

/// What is to be judged.
pub(super) struct Case<'a> {
    /// The container's pod.
    pub(super) pod: &'a PodSandbox,
    /// The container as it was before any plugin.
    pub(super) container: &'a Container,
    /// Who wants what.
    pub(super) owners: &'a Owners,
    /// The plugins that were asked, as `10-example`.
    pub(super) plugins: &'a [&'a str],
}

/// Judges.
///
/// # Errors
/// Why the container can't be made so.
pub(super) fn judge(config: &ValidatorConfig, case: &Case<'_>) -> Result<(), String> {
    if !config.enable {
        return Ok(());
    }
    let id = case.container.id.as_str();
    if config.reject_oci_hook_adjustment
        && let Some(owners) = case.owners.owner(id, Field::OciHooks, None)
    {
        return Err(format!("OCI hooks may not be added; {owners} did"));
    }
    seccomp(config, case)?;
    for (is_forbidden, field, what) in [
        (config.reject_namespace_adjustment, Field::Namespace, "namespaces"),
        (config.reject_sysctl_adjustment, Field::Sysctl, "sysctls"),
    ] {
        if let Some(owners) = case.owners.of(id, field).filter(|_| is_forbidden) {
            let all = owners.owners.iter();
            let offenders: Vec<_> = all.map(|(key, owner)| format!("{key} by {owner}")).collect();
            return Err(format!("{what} may not be changed: {}", offenders.join(", ")));
        }
    }
    required(config, case)
}

fn seccomp(config: &ValidatorConfig, case: &Case<'_>) -> Result<(), String> {
    let owner = case.owners.owner(&case.container.id, Field::SeccompPolicy, None);
    let Some(owner) = owner else { return Ok(()) };
    let linux = case.container.linux.as_ref();
    let profile = linux.and_then(|linux| linux.seccomp_profile.as_ref());
    let (is_forbidden, what) = match profile.map(SecurityProfile::profile_type) {
        None | Some(ProfileType::Unconfined) => (config.reject_unconfined_seccomp_adjustment, "no"),
        Some(ProfileType::RuntimeDefault) => (
            config.reject_runtime_default_seccomp_adjustment,
            "the runtime's default",
        ),
        Some(ProfileType::Localhost) => (config.reject_custom_seccomp_adjustment, "a"),
    };
    if is_forbidden {
        return Err(format!(
            "the seccomp policy of a container with {what} profile may not be changed; {owner} did"
        ));
    }
    Ok(())
}

fn required(config: &ValidatorConfig, case: &Case<'_>) -> Result<(), String> {
    let name = &case.container.name;
    let key = config.tolerate_missing_plugins_annotation.as_str();
    if let Some(value) = annotation(case.pod, key, name).filter(|_| !key.is_empty()) {
        match value.trim() {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => return Ok(()),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => {}
            _ => return Err(format!("annotation {key}: {value:?} is neither true nor false")),
        }
    }
    let mut wanted = config.required_plugins.clone();
    if let Some(value) = annotation(case.pod, REQUIRED, name) {
        let more = list(value)
            .ok_or_else(|| format!("annotation {REQUIRED}: {value:?} is not a list of plugins"))?;
        wanted.extend(more);
    }
    let is_there = |name: &String| {
        let named =
            |plugin: &&str| plugin == name || plugin.split_once('-').is_some_and(|(_, base)| base == name);
        case.plugins.iter().any(named)
    };
    wanted.retain(|name| !is_there(name));
    if wanted.is_empty() {
        Ok(())
    } else {
        Err(format!("required plugins are missing: {}", wanted.join(", ")))
    }
}

/// A pod's annotation for one of its containers: the most particular one counts.
fn annotation<'a>(pod: &'a PodSandbox, key: &str, container: &str) -> Option<&'a str> {
    let keys = [
        format!("{key}/container.{container}"),
        format!("{key}/pod"),
        key.to_owned(),
    ];
    let found = keys.iter().find_map(|key| pod.annotations.get(key));
    found.map(String::as_str)
}

/// A list of names in YAML: `[a, "b"]`, or a line `- a` for each.
fn list(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let entries: Vec<&str> = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.split(',').collect(),
        None => text
            .lines()
            .map(|line| line.trim().strip_prefix("- "))
            .collect::<Option<_>>()?,
    };
    let bare = |entry: &str| {
        let entry = entry.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| {
            entry
                .strip_prefix(quote)
                .and_then(|rest| rest.strip_suffix(quote))
        });
        let name = quoted.unwrap_or(entry);
        let plain = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
        plain.then(|| name.to_owned())
    };
    let names: Option<Vec<String>> = entries.into_iter().map(bare).collect();
    names.map(|names| names.into_iter().filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nri::adjust::Merge;
    use crate::proto::nri::{
        ContainerAdjustment, Hook, Hooks, LinuxContainerAdjustment, LinuxNamespace, LinuxSeccomp,
    };

    fn judged(
        config: &ValidatorConfig,
        wanted: ContainerAdjustment,
        annotations: &[(&str, &str)],
    ) -> Result<(), String> {
        let container = Container {
            id: "c".into(),
            name: "main".into(),
            ..Container::default()
        };
        let mut merge = Merge::new(container.clone());
        merge.adjust("10-x", wanted).unwrap();
        let pod = PodSandbox {
            annotations: annotations
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..PodSandbox::default()
        };
        let case = Case {
            pod: &pod,
            container: &container,
            owners: &merge.owners,
            plugins: &["10-x", "20-y"],
        };
        judge(config, &case)
    }

    fn hooks() -> ContainerAdjustment {
        ContainerAdjustment {
            hooks: Some(Hooks {
                prestart: vec![Hook::default()],
                ..Hooks::default()
            }),
            ..ContainerAdjustment::default()
        }
    }

    #[test]
    fn what_is_forbidden_is_rejected_with_its_owner() {
        let config = ValidatorConfig {
            enable: true,
            reject_oci_hook_adjustment: true,
            reject_namespace_adjustment: true,
            reject_unconfined_seccomp_adjustment: true,
            ..ValidatorConfig::default()
        };
        assert!(judged(&config, hooks(), &[]).unwrap_err().contains("10-x"));
        let linux = |linux| ContainerAdjustment {
            linux: Some(linux),
            ..ContainerAdjustment::default()
        };
        let namespace = linux(LinuxContainerAdjustment {
            namespaces: vec![LinuxNamespace {
                r#type: "-network".into(),
                path: String::new(),
            }],
            ..LinuxContainerAdjustment::default()
        });
        assert!(judged(&config, namespace, &[]).unwrap_err().contains("network"));
        let seccomp = linux(LinuxContainerAdjustment {
            seccomp_policy: Some(LinuxSeccomp::default()),
            ..LinuxContainerAdjustment::default()
        });
        assert!(judged(&config, seccomp, &[]).is_err());
        assert!(judged(&config, ContainerAdjustment::default(), &[]).is_ok());
        assert!(
            judged(&ValidatorConfig::default(), hooks(), &[]).is_ok(),
            "off by default"
        );
    }

    #[test]
    fn plugins_can_be_required_by_configuration_and_by_pods() {
        let mut config = ValidatorConfig {
            enable: true,
            required_plugins: vec!["x".into(), "20-y".into()],
            tolerate_missing_plugins_annotation: "tolerate".into(),
            ..ValidatorConfig::default()
        };
        let nothing = ContainerAdjustment::default;
        assert!(judged(&config, nothing(), &[]).is_ok());
        assert!(
            judged(&config, nothing(), &[(REQUIRED, "[ \"z\" ]")])
                .unwrap_err()
                .contains('z')
        );
        assert!(
            judged(
                &config,
                nothing(),
                &[("required-plugins.noderesource.dev/container.other", "[z]")]
            )
            .is_ok()
        );
        assert!(judged(&config, nothing(), &[(REQUIRED, "- x\n- z")]).is_err());
        assert!(judged(&config, nothing(), &[(REQUIRED, "{z: 1}")]).is_err());
        config.required_plugins.push("z".into());
        assert!(judged(&config, nothing(), &[]).is_err());
        assert!(judged(&config, nothing(), &[("tolerate/container.main", "true")]).is_ok());
        assert!(judged(&config, nothing(), &[("tolerate", "maybe")]).is_err());
    }
}
