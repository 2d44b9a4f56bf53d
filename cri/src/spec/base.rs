//! A handler's base spec under a container's own: what the container says counts.

use oci_spec::runtime::Spec;
use serde_json::{Map, Value};

use super::SpecError;

/// Lists whose entries are told apart by a key: those of the base that the container has none like are added.
const KEYED: [(&str, &str); 3] = [
    ("/mounts", "destination"),
    ("/process/rlimits", "type"),
    ("/linux/devices", "path"),
];
/// Lists of the base that stand before the container's.
const JOINED: [&str; 7] = [
    "/hooks/prestart",
    "/hooks/createRuntime",
    "/hooks/createContainer",
    "/hooks/startContainer",
    "/hooks/poststart",
    "/hooks/poststop",
    "/linux/resources/devices",
];
/// `NAME=value` each.
const ENVIRONMENT: &str = "/process/env";

/// The container's spec, and where it says nothing the base's.
///
/// # Errors
/// Both together are no spec.
pub fn over(base: &Value, spec: &Spec) -> Result<Spec, SpecError> {
    let wrong = |error: serde_json::Error| SpecError::Invalid {
        field: "base_spec",
        value: String::new(),
        reason: error.to_string(),
    };
    let mut whole = serde_json::to_value(spec).map_err(wrong)?;
    merge(&mut whole, base, "");
    serde_json::from_value(whole).map_err(wrong)
}

fn merge(own: &mut Value, base: &Value, path: &str) {
    match (own, base) {
        (Value::Object(own), Value::Object(base)) => objects(own, base, path),
        (own @ Value::Null, base) => *own = base.clone(),
        (Value::Array(own), Value::Array(base)) => lists(own, base, path),
        _ => {}
    }
}

fn objects(own: &mut Map<String, Value>, base: &Map<String, Value>, path: &str) {
    for (key, value) in base {
        match own.get_mut(key) {
            Some(inner) => merge(inner, value, &format!("{path}/{key}")),
            None => {
                own.insert(key.clone(), value.clone());
            }
        }
    }
}

fn lists(own: &mut Vec<Value>, base: &[Value], path: &str) {
    if JOINED.contains(&path) {
        own.splice(0..0, base.iter().cloned());
        return;
    }
    let key = |value: &Value| -> Option<String> {
        if path == ENVIRONMENT {
            return Some(value.as_str()?.split('=').next()?.to_owned());
        }
        let (_, key) = KEYED.iter().find(|(list, _)| *list == path)?;
        Some(value.get(key)?.as_str()?.to_owned())
    };
    let taken: Vec<Option<String>> = own.iter().map(key).collect();
    own.extend(
        base.iter()
            .filter(|value| key(value).is_some_and(|k| !taken.contains(&Some(k))))
            .cloned(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_counts_and_the_base_fills_the_gaps() {
        let own = json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/own", "user": {"uid": 1, "gid": 1}, "args": ["a"], "env": ["A=1"]},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}},
        });
        let base = json!({
            "domainname": "base",
            "process": {"cwd": "/base", "env": ["A=2", "B=3"], "noNewPrivileges": true},
            "mounts": [{"destination": "/proc", "type": "none"}, {"destination": "/opt", "type": "tmpfs"}],
            "hooks": {"poststop": [{"path": "/bin/true"}]},
            "linux": {"resources": {"devices": [{"allow": true, "access": "r"}]}, "sysctl": {"net.a": "1"}},
        });
        let own: Spec = serde_json::from_value(own).unwrap();
        let whole = serde_json::to_value(over(&base, &own).unwrap()).unwrap();
        for (place, expected) in [
            ("/process/cwd", json!("/own")),
            ("/process/args", json!(["a"])),
            ("/process/env", json!(["A=1", "B=3"])),
            ("/domainname", json!("base")),
            ("/mounts/0/type", json!("proc")),
            ("/mounts/1/destination", json!("/opt")),
            ("/linux/sysctl", json!({"net.a": "1"})),
            ("/linux/resources/devices/0/allow", json!(true)),
            ("/linux/resources/devices/1/allow", json!(false)),
            ("/hooks/poststop/0/path", json!("/bin/true")),
        ] {
            assert_eq!(whole.pointer(place), Some(&expected), "{place}");
        }
        assert_eq!(whole["mounts"].as_array().unwrap().len(), 2);
    }
}
