//! Configurations that leave out what has a plain default, or name capabilities that nobody knows: other runtimes take
//! them, and so tools write them. Only what can't be read as it stands comes here.

use oci_spec::runtime::Capability;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Value, json};

/// `process.scheduler.flags` as the specification has them, and as the library does that reads them.
const SCHEDULER_FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Something that was read, and what of it was passed over.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) warnings: Vec<String>,
}

/// Where a process lies within a text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holds {
    /// In the field `process`, of a configuration.
    Configuration,
    /// It is one.
    #[cfg(any(test, feature = "oci"))]
    Process,
}

/// Reads JSON. The error is that of the text as it is, with the field at fault.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8], holds: Holds) -> serde_json::Result<Read<T>> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(Read {
            value,
            warnings: Vec::new(),
        });
    }
    let mut all: Value = serde_json::from_slice(text)?;
    let process = match holds {
        Holds::Configuration => all.get_mut("process"),
        #[cfg(any(test, feature = "oci"))]
        Holds::Process => Some(&mut all),
    };
    let warnings = process.map(complete).unwrap_or_default();
    match serde_json::from_value(all) {
        Ok(value) => Ok(Read { value, warnings }),
        Err(_) => located(text),
    }
}

/// Reads once more, slowly, to tell where the error is.
fn located<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<Read<T>> {
    let mut json = serde_json::Deserializer::from_slice(text);
    match serde_path_to_error::deserialize(&mut json) {
        Ok(value) => Ok(Read {
            value,
            warnings: Vec::new(),
        }),
        Err(error) => {
            let path = error.path().to_string();
            Err(match path.as_str() {
                "." => error.into_inner(),
                _ => serde_json::Error::custom(format!("{path}: {}", error.into_inner())),
            })
        }
    }
}

/// Gives a process its user, root, and takes unknown capabilities away: nobody could grant them.
fn complete(process: &mut Value) -> Vec<String> {
    let Some(process) = process.as_object_mut() else {
        return Vec::new();
    };
    process.entry("user").or_insert_with(|| json!({}));
    let flags = process.get_mut("scheduler").and_then(|s| s.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        let known = SCHEDULER_FLAGS.iter().find(|(name, _)| flag == name);
        if let Some((_, ours)) = known {
            *flag = json!(ours);
        }
    }
    let mut unknown = Vec::new();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()) {
        let Some(names) = set.as_array_mut() else { continue };
        names.retain(|name| {
            let is_known = name.as_str().is_none_or(is_known);
            if !is_known && !unknown.contains(name) {
                unknown.push(name.clone());
            }
            is_known
        });
    }
    let warning = |name: Value| format!("ignoring unknown capability {name}");
    unknown.into_iter().map(warning).collect()
}

fn is_known(name: &str) -> bool {
    serde_json::from_value::<Capability>(json!(name)).is_ok()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;

    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_told() {
        let text = br#"{"ociVersion":"1.0.0","process":{"args":["sh"],"cwd":"/",
            "capabilities":{"bounding":["CAP_CHOWN","CAP_NO"],"effective":["CAP_NO"]}}}"#;
        let read: Read<Spec> = super::read(text, Holds::Configuration).unwrap();
        assert_eq!(read.warnings, ["ignoring unknown capability \"CAP_NO\""]);
        let process = read.value.process().as_ref().unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
        let bounding = process
            .capabilities()
            .as_ref()
            .unwrap()
            .bounding()
            .as_ref()
            .unwrap();
        assert_eq!(bounding.len(), 1);
    }

    #[test]
    fn flags_of_the_specification_are_known() {
        for (name, _) in SCHEDULER_FLAGS {
            let text =
                json!({"args": ["sh"], "cwd": "/", "scheduler": {"policy": "SCHED_BATCH", "flags": [name]}});
            let read = super::read::<oci_spec::runtime::Process>(text.to_string().as_bytes(), Holds::Process);
            read.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, place) in [
            (&b"{"[..], ""),
            (br#"{"process":{"args":7}}"#, "process.args: "),
            (br#"{"ociVersion":1,"process":{}}"#, "ociVersion: "),
            (
                br#"{"ociVersion":"1.2.0","linux":{"resources":{"memory":{"limit":"1G"}}}}"#,
                "linux.resources.memory.limit: ",
            ),
            (
                br#"{"ociVersion":"1.2.0","mounts":[{"destination":"/a"},{"destination":1}]}"#,
                "mounts[1].destination: ",
            ),
        ] {
            let plain = serde_json::from_slice::<Spec>(text).unwrap_err().to_string();
            let lenient = super::read::<Spec>(text, Holds::Configuration)
                .unwrap_err()
                .to_string();
            assert_eq!(lenient, format!("{place}{plain}"));
        }
    }
}
