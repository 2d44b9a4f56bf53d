//! Lays a file's values over the defaults, and refuses what the table of settings doesn't know.

use toml::{Table, Value};

use super::{
    ConfigError,
    handler_keys::HANDLER_KEYS,
    keys,
    raw::{RawConfig, RawHandler, RawRuntime},
};

/// The section that has a section of its own for each handler.
const HANDLERS: &str = "runtimes";
/// Settings of `[runtime]` that no handler has of its own.
const COMMON: [&str; 5] = [
    "default_handler",
    "handlers",
    "cdi_dirs",
    "rdt_config_file",
    "resctrl_root",
];

/// A file's values over the defaults.
pub(super) struct Merged {
    pub(super) config: RawConfig,
    /// By name: what the handler has beside, and `[runtime]` as it is for it.
    pub(super) handlers: Vec<(String, RawHandler, RawRuntime)>,
}

/// The defaults, and over them the values of `text`.
pub(super) fn merge(text: &str) -> Result<Merged, ConfigError> {
    let mut merged: Table = keys::documented_defaults().parse()?;
    let mut over: Table = text.parse()?;
    let handlers = over.remove(HANDLERS);
    overlay(&mut merged, over, "")?;
    let common = merged.get("runtime").and_then(Value::as_table).cloned();
    let common = common.unwrap_or_default();
    let handlers = match handlers {
        None => Vec::new(),
        Some(Value::Table(handlers)) => handlers
            .into_iter()
            .map(|(name, over)| handler(&common, name, over))
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(no_section(HANDLERS, &other)),
    };
    Ok(Merged {
        config: Value::Table(merged).try_into()?,
        handlers,
    })
}

/// A handler's section over `[runtime]`.
fn handler(
    common: &Table,
    name: String,
    over: Value,
) -> Result<(String, RawHandler, RawRuntime), ConfigError> {
    let section = format!("{HANDLERS}.{name}");
    let Value::Table(over) = over else {
        return Err(no_section(&section, &over));
    };
    let mut merged = common.clone();
    let fixed: Vec<(&str, Value)> = COMMON
        .iter()
        .filter_map(|key| Some((*key, merged.remove(*key)?)))
        .collect();
    let mut own = Table::new();
    for key in HANDLER_KEYS {
        let line: Table = format!("{} = {}", key.name, key.default).parse()?;
        own.extend(line);
    }
    let names: Vec<String> = own.keys().cloned().collect();
    merged.extend(own);
    overlay(&mut merged, over, &section)?;
    let own: Table = names
        .into_iter()
        .filter_map(|name| merged.remove_entry(&name))
        .collect();
    merged.extend(fixed.into_iter().map(|(key, value)| (key.to_owned(), value)));
    Ok((
        name,
        Value::Table(own).try_into()?,
        Value::Table(merged).try_into()?,
    ))
}

fn no_section(key: &str, value: &Value) -> ConfigError {
    ConfigError::Type {
        key: key.to_owned(),
        value: value.to_string(),
        expected: "a section",
    }
}

fn overlay(base: &mut Table, over: Table, section: &str) -> Result<(), ConfigError> {
    for (name, value) in over {
        let key = if section.is_empty() {
            name.clone()
        } else {
            format!("{section}.{name}")
        };
        match (base.get_mut(&name), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over, &key)?,
            (Some(base), value) => {
                check_type(&key, base, &value)?;
                *base = value;
            }
            (None, value) => {
                return Err(ConfigError::Unknown {
                    hint: similar(&key),
                    key,
                    value: value.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// The default's type is the setting's; lists hold text.
fn check_type(key: &str, default: &Value, value: &Value) -> Result<(), ConfigError> {
    let fits = match (default, value) {
        (Value::Array(_), Value::Array(items)) => items.iter().all(Value::is_str),
        _ => default.same_type(value),
    };
    let expected = match default {
        Value::String(_) => "text in quotes",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list of text",
        Value::Table(_) => "a section",
    };
    if fits {
        Ok(())
    } else {
        Err(ConfigError::Type {
            key: key.to_owned(),
            value: value.to_string(),
            expected,
        })
    }
}

/// The setting whose name is most like `key`, if one is.
fn similar(key: &str) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let nearest = keys::KEYS
        .iter()
        .chain(HANDLER_KEYS.iter().filter(|_| key.starts_with(HANDLERS)))
        .map(|k| (distance(&last(key), &last(k.name)), k.name))
        .min()?;
    (nearest.0 <= 2).then(|| nearest.1.to_owned())
}

/// Characters to add, drop or change to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
