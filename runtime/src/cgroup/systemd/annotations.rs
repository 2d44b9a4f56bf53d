//! Properties of a unit that a container asks for by annotations: `org.systemd.property.NAME` with a value in GVariant's
//! text form, as runc reads it (its docs/systemd-properties.md).
//!
//! ```text
//!   "org.systemd.property.CollectMode":     "'inactive-or-failed'"
//!   "org.systemd.property.TimeoutStopUSec": "uint64 123456789"
//!   "org.systemd.property.TimeoutStopSec":  "123.5"      # seconds, of which systemd's bus has microseconds
//!   "org.systemd.property.After":           "['a.service', 'b.service']"
//! ```

use std::collections::HashMap;

use super::wire::Value;
use crate::error::{Error, Result};

const PREFIX: &str = "org.systemd.property.";

/// The properties among these annotations, in the order of their names.
pub(super) fn properties(annotations: &HashMap<String, String>) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let wrong = |why: &str| Error::invalid(format!("annotations.{key}"), format!("{text:?}: {why}"));
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(wrong(
                "names of properties have three letters or more, and nothing else",
            ));
        }
        found.push(
            match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
                Some(stem) => (
                    format!("{stem}USec"),
                    microseconds(text).ok_or_else(|| wrong(NO_SECONDS))?,
                ),
                None => (name.to_owned(), value(text).ok_or_else(|| wrong(NO_VALUE))?),
            },
        );
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

const NO_SECONDS: &str = "is no number of seconds";
const NO_VALUE: &str = "is no boolean, string, integer, or list of strings, in GVariant's text form";

/// Seconds, also with a type or a fraction.
fn microseconds(text: &str) -> Option<Value> {
    let number = text.trim().rsplit(char::is_whitespace).next()?;
    if let Ok(seconds) = number.parse::<u64>() {
        return seconds.checked_mul(1_000_000).map(Value::U64);
    }
    let seconds: f64 = number.parse().ok()?;
    let microseconds = seconds * 1e6;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, and rounded"
    )]
    (0.0..9e18)
        .contains(&microseconds)
        .then_some(Value::U64(microseconds as u64))
}

/// One value, all of the text.
fn value(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(list) = text.strip_prefix('[') {
        return texts(list.strip_suffix(']')?).map(Value::Texts);
    }
    if text.starts_with(['\'', '"']) {
        let (string, rest) = string(text)?;
        return rest.is_empty().then_some(Value::Text(string));
    }
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    match text.split_once(char::is_whitespace) {
        Some(("byte", n)) => integer(n).map(Value::Byte),
        Some(("uint32", n)) => integer(n).map(Value::U32),
        Some(("uint64", n)) => integer(n).map(Value::U64),
        Some(("int64", n)) => integer(n).map(Value::I64),
        Some(("int32", n)) => integer(n).map(Value::I32),
        Some(_) => None,
        None => integer(text).map(Value::I32),
    }
}

fn integer<T: TryFrom<i128>>(text: &str) -> Option<T> {
    let text = text.trim();
    let number = match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse::<i128>().ok(),
    };
    T::try_from(number?).ok()
}

/// Strings with commas between.
fn texts(mut text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    text = text.trim_start();
    while !text.is_empty() {
        let (one, rest) = string(text)?;
        all.push(one);
        text = match rest.trim_start() {
            "" => "",
            rest => rest
                .strip_prefix(',')
                .map(str::trim_start)
                .filter(|rest| !rest.is_empty())?,
        };
    }
    Some(all)
}

/// The quoted string that a text begins with, and what follows.
fn string(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut characters = text.char_indices().skip(1);
    let mut string = String::new();
    while let Some((at, c)) = characters.next() {
        match c {
            c if c == quote => return Some((string, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => string.push('\n'),
                't' => string.push('\t'),
                c @ ('\\' | '\'' | '"') => string.push(c),
                _ => return None,
            },
            // the bus has no such strings
            '\0' => return None,
            c => string.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<(String, Value)>> {
        let annotations = [(format!("{PREFIX}{name}"), text), ("other".to_owned(), "x")];
        properties(&annotations.map(|(key, value)| (key, value.to_owned())).into())
    }

    #[test]
    fn values_have_the_types_that_their_text_says() {
        let cases = [
            (
                "'inactive-or-failed'",
                Value::Text("inactive-or-failed".to_owned()),
            ),
            (r#" "it's \"it\"" "#, Value::Text("it's \"it\"".to_owned())),
            ("true", Value::Bool(true)),
            ("5", Value::I32(5)),
            ("-5", Value::I32(-5)),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("uint32  0x10", Value::U32(16)),
            ("int64 -1", Value::I64(-1)),
            ("byte 7", Value::Byte(7)),
            (
                "['a.service', \"b\"]",
                Value::Texts(vec!["a.service".to_owned(), "b".to_owned()]),
            ),
            ("[]", Value::Texts(Vec::new())),
        ];
        for (text, wanted) in cases {
            assert_eq!(
                read("Name", text).unwrap(),
                [("Name".to_owned(), wanted)],
                "{text}"
            );
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (text, wanted) in [
            ("123", 123_000_000),
            ("uint64 2", 2_000_000),
            ("0.5", 500_000),
            ("double 1.5", 1_500_000),
        ] {
            let found = read("TimeoutStopSec", text).unwrap();
            assert_eq!(
                found,
                [("TimeoutStopUSec".to_owned(), Value::U64(wanted))],
                "{text}"
            );
        }
        let found = read("TimeoutStopUSec", "uint64 5").unwrap();
        assert_eq!(found, [("TimeoutStopUSec".to_owned(), Value::U64(5))]);
    }

    #[test]
    fn what_is_no_property_is_refused_by_name_and_value() {
        let bad = [
            ("Name", ""),
            ("Name", "word"),
            ("Name", "'open"),
            ("Name", "'a' b"),
            ("Name", "['a' 'b']"),
            ("Name", "['a',]"),
            ("Name", "['a'"),
            ("Name", "99999999999"),
            ("Name", "byte 256"),
            ("Name", "uint64 -1"),
            ("Name", "string 'x'"),
            ("Name", "'\\x'"),
            ("Sec", "-1"),
            ("TimeoutSec", "soon"),
            ("TimeoutSec", "-1"),
            ("TimeoutSec", "NaN"),
            ("TimeoutSec", "18446744073709551615"),
            ("Na", "1"),
            ("Na me", "1"),
            ("", "1"),
        ];
        for (name, text) in bad {
            let error = read(name, text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{PREFIX}{name}")) && error.contains(&format!("{text:?}")),
                "{error}"
            );
        }
    }
}
