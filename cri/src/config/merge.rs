//! Lays a file's values over the defaults, and refuses what the table of settings doesn't know.

use toml::{Table, Value};

use super::{ConfigError, keys, raw::RawConfig};

/// The defaults, and over them the values of `text`.
pub(super) fn merge(text: &str) -> Result<RawConfig, ConfigError> {
    let mut merged: Table = keys::documented_defaults().parse()?;
    overlay(&mut merged, text.parse()?, "")?;
    Ok(Value::Table(merged).try_into()?)
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
