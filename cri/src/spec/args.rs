//! What is run, and where: command, args and working folder from the config and the image.

use std::path::PathBuf;

use oci_spec::image::{Config, ImageConfiguration};

use super::SpecError;
use crate::proto::ContainerConfig;

/// The process's arguments.
///
/// The config's command takes the place of ENTRYPOINT and CMD; its args alone that of CMD.
pub(super) fn args(config: &ContainerConfig, image: &ImageConfiguration) -> Result<Vec<String>, SpecError> {
    let image = image.config().as_ref();
    let list = |words: Option<&Option<Vec<String>>>| words.cloned().flatten().unwrap_or_default();
    let mut words = if config.command.is_empty() {
        // Images say "no entry point" also by one empty word.
        let entrypoint = list(image.map(Config::entrypoint));
        if entrypoint == [""] {
            Vec::new()
        } else {
            entrypoint
        }
    } else {
        config.command.clone()
    };
    if config.command.is_empty() && config.args.is_empty() {
        words.extend(list(image.map(Config::cmd)));
    } else {
        words.extend_from_slice(&config.args);
    }
    if words.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(SpecError::invalid("args", word, "contains a NUL byte")),
        None => Ok(words),
    }
}

/// The working folder: the config's, else the image's, else the root.
pub(super) fn cwd(config: &ContainerConfig, image: &ImageConfiguration) -> Result<PathBuf, SpecError> {
    let of_image = image
        .config()
        .as_ref()
        .and_then(|i| i.working_dir().as_deref())
        .unwrap_or_default();
    let path = [config.working_dir.as_str(), of_image]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .unwrap_or("/");
    if !path.starts_with('/') || path.contains('\0') {
        return Err(SpecError::invalid(
            "working_dir",
            path,
            "expected an absolute path",
        ));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::image;

    fn result(
        command: &[&str],
        words: &[&str],
        image_config: &serde_json::Value,
    ) -> Result<Vec<String>, SpecError> {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let config = ContainerConfig {
            command: list(command),
            args: list(words),
            ..Default::default()
        };
        args(&config, &image(image_config))
    }

    #[test]
    fn the_config_goes_before_the_image() {
        let image = serde_json::json!({"Entrypoint": ["/e", "-x"], "Cmd": ["c"]});
        for (command, words, want) in [
            (&[][..], &[][..], vec!["/e", "-x", "c"]),
            (&[], &["a"], vec!["/e", "-x", "a"]),
            (&["/k"], &[], vec!["/k"]),
            (&["/k"], &["a", ""], vec!["/k", "a", ""]),
        ] {
            assert_eq!(result(command, words, &image).unwrap(), want);
        }
    }

    #[test]
    fn an_empty_entry_point_is_none() {
        let image = serde_json::json!({"Entrypoint": [""], "Cmd": ["c"]});
        assert_eq!(result(&[], &[], &image).unwrap(), ["c"]);
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        assert_eq!(
            result(&[], &[], &serde_json::json!({})),
            Err(SpecError::NoCommand)
        );
        assert_eq!(
            result(&[], &[], &serde_json::json!({"Entrypoint": [""]})),
            Err(SpecError::NoCommand)
        );
        assert_eq!(
            result(&[""], &["a"], &serde_json::json!({})),
            Err(SpecError::NoCommand)
        );
        assert!(result(&["a\0b"], &[], &serde_json::json!({})).is_err());
    }

    #[test]
    fn the_working_folder_is_absolute() {
        let of = |dir: &str, image_dir: &str| {
            let config = ContainerConfig {
                working_dir: dir.to_owned(),
                ..Default::default()
            };
            cwd(&config, &image(&serde_json::json!({"WorkingDir": image_dir})))
        };
        assert_eq!(of("", "").unwrap(), PathBuf::from("/"));
        assert_eq!(of("", "/srv").unwrap(), PathBuf::from("/srv"));
        assert_eq!(of("/w", "/srv").unwrap(), PathBuf::from("/w"));
        assert!(of("w", "/srv").is_err());
        assert!(of("", "srv").is_err());
    }
}
