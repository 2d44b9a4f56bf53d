//! Folders of hooks that an administrator has put beside the runtime (oci-hooks(5), version 1.0.0): each file names a hook, its
//! stages, and which containers it is for.
//!
//! The folders are read anew for each container, so that changes need no restart. A file in a later folder takes the place of
//! one of the same name in an earlier one; the hooks run in the order of the files' names. A file that can't be read keeps
//! containers from being made: nobody can know what it would have been for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Spec};
use regex::Regex;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::spec::hooks::add;

/// The only version that is known.
const VERSION: &str = "1.0.0";
/// The setting that names the folders.
const SETTING: &str = "runtime.hooks_dirs";
/// A larger file is none of these.
const MAX_FILE: u64 = 1 << 20;
/// Bytes that a compiled pattern may take.
const MAX_PATTERN: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    version: String,
    hook: Hook,
    when: When,
    stages: Vec<String>,
}

/// All that is said must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct When {
    always: Option<bool>,
    /// Patterns for a key and its value.
    annotations: BTreeMap<String, String>,
    /// Patterns for the first argument, one of which must fit.
    commands: Vec<String>,
    has_bind_mounts: Option<bool>,
}

/// What a container is known by.
#[derive(Debug)]
pub struct Traits<'a> {
    /// The container's annotations and its pod's.
    pub annotations: BTreeMap<&'a str, &'a str>,
    /// Whether its config has mounts.
    pub has_mounts: bool,
}

/// Adds to `spec` the hooks of the folders that are for it. Blocking.
///
/// # Errors
/// A file that can't be used.
pub fn inject(folders: &[PathBuf], spec: &mut Spec, traits: &Traits<'_>) -> Result<()> {
    for path in files(folders)?.into_values() {
        let refuse = |reason: String| Error::invalid(SETTING, format!("{}: {reason}", path.display()));
        let definition = read(&path).map_err(refuse)?;
        if definition.when.fits(spec, traits).map_err(refuse)? {
            for stage in &definition.stages {
                add(spec, stage, definition.hook.clone()).map_err(refuse)?;
            }
        }
    }
    Ok(())
}

/// By their names, without regard to case; the same name in another case is another file, after it.
fn files(folders: &[PathBuf]) -> Result<BTreeMap<(String, String), PathBuf>> {
    let mut all = BTreeMap::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::invalid(SETTING, format!("{}: {error}", folder.display())));
            }
            Ok(entries) => entries,
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(name) = name.filter(|name| name.ends_with(".json")) {
                let key = (name.to_lowercase(), name.to_owned());
                all.insert(key, path);
            }
        }
    }
    Ok(all)
}

fn read(path: &Path) -> std::result::Result<Definition, String> {
    let about = fs::metadata(path).map_err(|e| e.to_string())?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(format!("is no regular file of at most {MAX_FILE} bytes"));
    }
    let text = fs::read(path).map_err(|e| e.to_string())?;
    let definition: Definition = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    if definition.version != VERSION {
        return Err(format!("version {:?}: expected {VERSION}", definition.version));
    }
    if definition.stages.is_empty() {
        return Err("stages: there are none".to_owned());
    }
    let program = definition.hook.path();
    if !program.is_absolute() || !program.exists() {
        return Err(format!("hook.path {:?}: no such program", program.display()));
    }
    Ok(definition)
}

impl When {
    fn fits(&self, spec: &Spec, traits: &Traits<'_>) -> std::result::Result<bool, String> {
        let mut said_anything = false;
        if let Some(always) = self.always {
            said_anything = true;
            if !always {
                return Ok(false);
            }
        }
        if let Some(wanted) = self.has_bind_mounts {
            said_anything = true;
            if !(wanted && traits.has_mounts) {
                return Ok(false);
            }
        }
        for (key, value) in &self.annotations {
            said_anything = true;
            let (key, value) = (pattern(key)?, pattern(value)?);
            let mut all = traits.annotations.iter();
            if !all.any(|(k, v)| key.is_match(k) && value.is_match(v)) {
                return Ok(false);
            }
        }
        if self.commands.is_empty() {
            return Ok(said_anything);
        }
        let process = spec.process().as_ref();
        let args = process
            .and_then(|process| process.args().as_deref())
            .unwrap_or_default();
        let Some(command) = args.first() else {
            return Ok(false);
        };
        for wanted in &self.commands {
            if pattern(wanted)?.is_match(command) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn pattern(text: &str) -> std::result::Result<Regex, String> {
    regex::RegexBuilder::new(text)
        .size_limit(MAX_PATTERN)
        .build()
        .map_err(|_| format!("when: {text:?} is no regular expression"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn hooks(folders: &[PathBuf], annotations: &[(&str, &str)], has_mounts: bool) -> Result<Value> {
        let mut spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/usr/bin/server", "x"]},
        }))
        .unwrap();
        let traits = Traits {
            annotations: annotations.iter().copied().collect(),
            has_mounts,
        };
        inject(folders, &mut spec, &traits)?;
        Ok(serde_json::to_value(spec).unwrap()["hooks"].clone())
    }

    fn definition(when: &Value, argument: &str) -> String {
        json!({
            "version": "1.0.0",
            "hook": {"path": "/bin/true", "args": ["true", argument], "timeout": 3},
            "when": when,
            "stages": ["createRuntime", "poststop"],
        })
        .to_string()
    }

    #[test]
    fn all_that_is_said_must_hold() {
        let tmp = tempfile::tempdir().unwrap();
        let folders = [tmp.path().to_owned()];
        for (when, fits) in [
            (json!({"always": true}), true),
            (json!({"always": false}), false),
            (json!({}), false),
            (json!({"hasBindMounts": true}), true),
            (json!({"annotations": {"^a\\.b$": "^y"}}), true),
            (json!({"annotations": {"^a\\.b$": "^n"}}), false),
            (json!({"annotations": {"a": "y", "missing": "."}}), false),
            (json!({"commands": ["^/bin/", "server$"]}), true),
            (json!({"commands": ["^/bin/"]}), false),
            (json!({"always": true, "commands": ["^/bin/"]}), false),
            (json!({"hasBindMounts": true, "commands": ["server"]}), true),
        ] {
            fs::write(tmp.path().join("one.json"), definition(&when, "x")).unwrap();
            let made = hooks(&folders, &[("a.b", "yes"), ("c", "d")], true).unwrap();
            assert_eq!(made["createRuntime"].is_array(), fits, "{when}");
            assert_eq!(made["poststop"].is_array(), fits, "{when}");
        }
        fs::write(
            tmp.path().join("one.json"),
            definition(&json!({"hasBindMounts": true}), "x"),
        )
        .unwrap();
        assert!(hooks(&folders, &[], false).unwrap().is_null());
    }

    #[test]
    fn later_folders_mask_and_names_give_the_order() {
        let (low, high) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let always = json!({"always": true});
        for (folder, name, argument) in [
            (&low, "02-b.json", "masked"),
            (&low, "03-c.json", "third"),
            (&low, "notes.txt", "none"),
            (&high, "02-b.json", "second"),
            (&high, "01-A.json", "first"),
        ] {
            fs::write(folder.path().join(name), definition(&always, argument)).unwrap();
        }
        let folders = [
            low.path().to_owned(),
            PathBuf::from("/no/such"),
            high.path().to_owned(),
        ];
        let made = hooks(&folders, &[], false).unwrap();
        let order: Vec<&str> = made["createRuntime"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|hook| hook["args"][1].as_str())
            .collect();
        assert_eq!(order, ["first", "second", "third"]);
        assert_eq!(made["createRuntime"][0]["timeout"], 3);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_never_passed_over() {
        let tmp = tempfile::tempdir().unwrap();
        let folders = [tmp.path().to_owned()];
        let good = definition(&json!({"always": true}), "x");
        for (text, reason) in [
            ("{".to_owned(), "EOF"),
            (good.replace("1.0.0", "2.0.0"), "version \"2.0.0\""),
            (good.replace("/bin/true", "/no/such"), "no such program"),
            (good.replace("poststop", "prestop"), "no such stage"),
            (good.replace("always", "allways"), "unknown field `allways`"),
            (
                definition(&json!({"commands": ["("]}), "x"),
                "no regular expression",
            ),
        ] {
            fs::write(tmp.path().join("bad.json"), text).unwrap();
            let refusal = hooks(&folders, &[], false).unwrap_err().to_string();
            assert!(
                refusal.contains(reason) && refusal.contains("bad.json"),
                "{reason}: {refusal}"
            );
        }
    }
}
