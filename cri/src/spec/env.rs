//! The environment, from several sources; what comes later wins.

use oci_spec::image::ImageConfiguration;

use super::SpecError;
use crate::proto::ContainerConfig;

/// What programs are searched in if the image doesn't say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `KEY=value` in order of first mention: HOSTNAME, TERM, PATH, HOME, the image's, the config's.
pub(super) fn env(
    config: &ContainerConfig,
    image: &ImageConfiguration,
    hostname: &str,
    home: &str,
) -> Result<Vec<String>, SpecError> {
    let mut env = Environment::default();
    env.set("HOSTNAME", hostname);
    if config.tty {
        env.set("TERM", "xterm");
    }
    env.set("PATH", DEFAULT_PATH);
    env.set("HOME", home);
    let of_image = image
        .config()
        .as_ref()
        .and_then(|i| i.env().as_deref())
        .unwrap_or_default();
    // An entry without a value is no entry; images are free to say anything.
    for (key, value) in of_image.iter().filter_map(|entry| entry.split_once('=')) {
        if !key.is_empty() && !key.contains('\0') && !value.contains('\0') {
            env.set(key, value);
        }
    }
    for entry in &config.envs {
        let key = entry.key.as_str();
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(SpecError::invalid("envs.key", key, "not a name of a variable"));
        }
        // The runtime spec is JSON: it holds text only. The value may be secret and isn't shown.
        match std::str::from_utf8(&entry.value) {
            Ok(value) if !value.contains('\0') => env.set(key, value),
            Ok(_) => {
                return Err(SpecError::invalid(
                    "envs.key",
                    key,
                    "its value contains a NUL byte",
                ));
            }
            Err(_) => return Err(SpecError::invalid("envs.key", key, "its value is not UTF-8")),
        }
    }
    Ok(env
        .0
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect())
}

#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some(entry) => value.clone_into(&mut entry.1),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto::KeyValue, spec::testing::image};

    fn result(config: &ContainerConfig, of_image: &[&str]) -> Result<Vec<String>, SpecError> {
        env(
            config,
            &image(&serde_json::json!({ "Env": of_image })),
            "pod",
            "/root",
        )
    }

    fn pair(key: &str, value: &[u8]) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: value.to_vec(),
        }
    }

    #[test]
    fn later_sources_win() {
        let config = ContainerConfig {
            tty: true,
            envs: vec![pair("A", b"1"), pair("HOSTNAME", b"mine"), pair("A", b"2=3")],
            ..Default::default()
        };
        let env = result(&config, &["PATH=/bin", "A=0", "JUNK", "=x", "B="]).unwrap();
        assert_eq!(
            env,
            [
                "HOSTNAME=mine",
                "TERM=xterm",
                "PATH=/bin",
                "HOME=/root",
                "A=2=3",
                "B="
            ]
        );
    }

    #[test]
    fn there_is_always_a_path() {
        let env = result(&ContainerConfig::default(), &[]).unwrap();
        assert_eq!(
            env,
            [
                "HOSTNAME=pod".to_owned(),
                format!("PATH={DEFAULT_PATH}"),
                "HOME=/root".to_owned()
            ]
        );
    }

    #[test]
    fn what_cannot_be_an_environment_is_refused_without_showing_the_value() {
        for bad in [
            pair("", b"x"),
            pair("A=B", b"x"),
            pair("A", b"secret\0"),
            pair("A", b"secret\xff"),
        ] {
            let config = ContainerConfig {
                envs: vec![bad],
                ..Default::default()
            };
            let error = result(&config, &[]).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
