//! Takes a slot's elements out of Pintle's nftables table, which all daemons of a host share, and what CNI programs
//! left of it in the table that iptables keeps.

use serde_json::Value;

use crate::host;
use crate::slot::Slot;

/// Deletes what names the slot's bridge or addresses.
pub(super) fn clear(slot: &Slot) {
    remove_elements(slot);
    remove_cni_rules(slot);
}

/// The objects of a table; none without such a table, or without nft.
fn list(family: &str, table: &str) -> Vec<Value> {
    let text = host::run("nft", &["--json", "--handle", "list", "table", family, table]).unwrap_or_default();
    let mut listed: Value = serde_json::from_str(&text).unwrap_or_default();
    match listed["nftables"].take() {
        Value::Array(objects) => objects,
        _ => Vec::new(),
    }
}

/// The rules by which the bridge and portmap programs masquerade and redirect, with the chain that each pod has.
fn remove_cni_rules(slot: &Slot) {
    let objects = list("ip", "nat");
    let rules = objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .filter(|rule| is_of(slot, &rule["expr"]));
    let mut chains = Vec::new();
    for rule in rules {
        let (Some(chain), handle) = (rule["chain"].as_str(), rule["handle"].to_string()) else {
            continue;
        };
        let _ = host::run("nft", &["delete", "rule", "ip", "nat", chain, "handle", &handle]);
        if chain.starts_with("CNI-") {
            chains.push(chain);
        }
    }
    for chain in chains {
        let _ = host::run("nft", &["flush", "chain", "ip", "nat", chain]);
        let _ = host::run("nft", &["delete", "chain", "ip", "nat", chain]);
    }
}

fn remove_elements(slot: &Slot) {
    let objects = list("inet", "pintle");
    for set in objects
        .iter()
        .filter_map(|object| object.get("set").or_else(|| object.get("map")))
    {
        let Some(name) = set["name"].as_str() else {
            continue;
        };
        for element in set["elem"].as_array().into_iter().flatten() {
            if is_of(slot, element)
                && let Some(key) = key(element)
            {
                let element = format!("{{ {key} }}");
                let _ = host::run("nft", &["delete", "element", "inet", "pintle", name, &element]);
            }
        }
    }
}

/// Whether some part of an element is the slot's.
fn is_of(slot: &Slot, element: &Value) -> bool {
    match element {
        Value::String(text) => *text == slot.bridge() || text.starts_with(&slot.subnet_prefix()),
        Value::Array(parts) => parts.iter().any(|part| is_of(slot, part)),
        Value::Object(parts) => parts.values().any(|part| is_of(slot, part)),
        _ => false,
    }
}

/// The element's key as nft's command line wants it; a map's element is a pair of key and value.
fn key(element: &Value) -> Option<String> {
    match element {
        Value::Array(pair) => text(pair.first()?),
        other => text(other),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        // Quoted where it is the name of an interface, which may look like anything.
        Value::String(word) if word.contains(['.', ':']) || word.chars().all(char::is_lowercase) => {
            Some(word.clone())
        }
        Value::String(word) => Some(format!("\"{word}\"")),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(object) => {
            if let Some(inner) = object.get("elem") {
                return text(inner.get("val")?);
            }
            if let Some(prefix) = object.get("prefix") {
                return Some(format!("{}/{}", text(prefix.get("addr")?)?, prefix.get("len")?));
            }
            let parts = object.get("concat")?.as_array()?;
            Some(parts.iter().map(text).collect::<Option<Vec<_>>>()?.join(" . "))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spells_keys_for_the_command_line() {
        assert_eq!(key(&json!("10.213.7.9")).as_deref(), Some("10.213.7.9"));
        assert_eq!(key(&json!("ptest7")).as_deref(), Some("\"ptest7\""));
        let range = json!({"prefix": {"addr": "10.213.7.0", "len": 24}});
        assert_eq!(key(&range).as_deref(), Some("10.213.7.0/24"));
        let mapped = json!([{"concat": ["tcp", 8080]}, {"concat": ["10.213.7.9", 80]}]);
        assert_eq!(key(&mapped).as_deref(), Some("tcp . 8080"));
    }
}
