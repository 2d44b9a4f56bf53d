//! The policy file, read anew for each pull.
//!
//! ```toml
//! [[policy]]
//! images = "registry.example/team/*"   # repositories, with * for any text; the longest pattern that fits counts
//! mode = "reject"                      # or "warn", or "off"
//! keys = ["team.pub"]                  # public keys (PEM), beside this file or by absolute path; one must fit
//! ```
//!
//! Signers without keys of their own, whom a public authority certifies (cosign's "keyless"), are not supported: a rule
//! that names one by cosign's words is refused, and says so.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::key::PublicKey;
use crate::config::StoreConfig;
use crate::error::{Error, IoContext as _, Result};
use crate::image::fits;
use crate::reference::Reference;

/// What happens to an image without a good signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// It is not pulled.
    Reject,
    /// It is pulled, and the log says so.
    Warn,
    /// Nobody looks.
    Off,
}

/// What holds for one repository.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(super) mode: Mode,
    pub(super) keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    policy: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    images: String,
    mode: Mode,
    #[serde(default)]
    keys: Vec<String>,
    keyless: Option<IgnoredAny>,
    certificate_identity: Option<IgnoredAny>,
    certificate_oidc_issuer: Option<IgnoredAny>,
}

impl Rule {
    fn is_keyless(&self) -> bool {
        let wanted = [
            &self.keyless,
            &self.certificate_identity,
            &self.certificate_oidc_issuer,
        ];
        wanted.into_iter().any(Option::is_some)
    }
}

/// The policy for a repository; `None` if nobody is to look for signatures.
///
/// # Errors
/// A policy file or key that can't be read: then nothing is pulled at all.
pub(crate) fn policy(config: &StoreConfig, reference: &Reference) -> Result<Option<Policy>> {
    let Some(path) = &config.signature_policy else {
        return Ok(None);
    };
    let text = fs::read_to_string(path).at("read", path)?;
    choose(&text, path, &reference.repository())
}

fn choose(text: &str, path: &Path, repository: &str) -> Result<Option<Policy>> {
    let bad = |reason: &str| Error::Config {
        key: "signature_policy",
        value: path.display().to_string(),
        reason: reason.lines().next().unwrap_or_default().to_owned(),
    };
    let file: File = toml::from_str(text).map_err(|error| bad(error.message()))?;
    if let Some(rule) = file.policy.iter().find(|rule| rule.is_keyless()) {
        return Err(bad(&format!(
            "{:?}: signers without keys (keyless) are not supported; name keys",
            rule.images
        )));
    }
    if let Some(rule) = file
        .policy
        .iter()
        .find(|rule| rule.mode != Mode::Off && rule.keys.is_empty())
    {
        return Err(bad(&format!("{:?}: no key is named", rule.images)));
    }
    let fitting = file.policy.iter().filter(|rule| fits(&rule.images, repository));
    // Of two of the same length the stricter one counts.
    let rule = fitting.max_by_key(|rule| {
        (
            rule.images.len(),
            rule.mode == Mode::Reject,
            rule.mode == Mode::Warn,
        )
    });
    let Some(rule) = rule.filter(|rule| rule.mode != Mode::Off) else {
        return Ok(None);
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut keys = Vec::new();
    for key in &rule.keys {
        let path = folder.join(key);
        let pem = fs::read(&path).at("read", &path)?;
        let key = PublicKey::from_pem(&pem).map_err(|reason| Error::Config {
            key: "public key",
            value: path.display().to_string(),
            reason: reason.to_owned(),
        })?;
        keys.push(key);
    }
    Ok(Some(Policy {
        mode: rule.mode,
        keys,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn the_longest_pattern_counts() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("k.pub"), KEY).unwrap();
        let text = r#"
            [[policy]]
            images = "*"
            mode = "warn"
            keys = ["k.pub"]
            [[policy]]
            images = "r.example/*"
            mode = "reject"
            keys = ["k.pub"]
            [[policy]]
            images = "r.example/free/*"
            mode = "off"
        "#;
        let path = folder.path().join("policy.toml");
        let mode = |repository: &str| choose(text, &path, repository).unwrap().map(|policy| policy.mode);
        assert_eq!(mode("docker.io/library/x"), Some(Mode::Warn));
        assert_eq!(mode("r.example/app"), Some(Mode::Reject));
        assert_eq!(mode("r.example/free/app"), None);
        assert!(choose("", &path, "r.example/app").unwrap().is_none());
    }

    #[test]
    fn a_broken_policy_is_an_error() {
        let path = Path::new("/nowhere/policy.toml");
        for text in [
            "[[policy]]\nimages = \"*\"\nmode = \"reject\"",
            "[[policy]]\nimages = \"*\"\nmode = \"maybe\"",
            "[[policy]]\nimages = \"*\"\nmode = \"off\"\nkey = [\"x\"]",
            "[[policy]]\nimages = \"*\"\nmode = \"warn\"\nkeys = [\"missing.pub\"]",
            "policies = 1",
        ] {
            assert!(choose(text, path, "r.example/app").is_err(), "{text}");
        }
    }

    #[test]
    fn keyless_signers_are_refused_by_name() {
        for word in [
            "keyless = true",
            "certificate_identity = \"a@r.example\"",
            "certificate_oidc_issuer = \"i\"",
        ] {
            let text = format!("[[policy]]\nimages = \"*\"\nmode = \"warn\"\nkeys = [\"k.pub\"]\n{word}");
            let error = choose(&text, Path::new("/policy.toml"), "r.example/app").unwrap_err();
            assert!(error.to_string().contains("keyless"), "{error}");
        }
    }
}
