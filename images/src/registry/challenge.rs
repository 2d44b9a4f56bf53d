//! Parses `WWW-Authenticate` (RFC 9110 section 11.6.1), as far as registries use it.

use std::collections::BTreeMap;

/// A way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Lower case, e.g. `bearer`.
    pub(super) scheme: String,
    /// Parameters with lower-case names.
    pub(super) parameters: BTreeMap<String, String>,
}

/// All challenges of one header; what can't be parsed ends the list.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let (word, after) = split_token(rest);
        if word.is_empty() {
            break;
        }
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let Some((value, after)) = split_value(value.trim_start()) else {
                break;
            };
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            challenges.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: BTreeMap::new(),
            });
            rest = after;
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    challenges
}

fn split_token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| c.is_whitespace() || matches!(c, '=' | ',' | '"'))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted text, and what follows it.
fn split_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, rest) = split_token(text);
        return Some((token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> Vec<String> {
        let show = |challenge: Challenge| format!("{} {:?}", challenge.scheme, challenge.parameters);
        parse(header).into_iter().map(show).collect()
    }

    #[test]
    fn parses_what_registries_send() {
        let header = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        let challenge = &parse(header)[0];
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.parameters["realm"], "https://auth.example/token");
        assert_eq!(challenge.parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(
            shown(r#"Basic realm="a \"b\"""#),
            [r#"basic {"realm": "a \"b\""}"#]
        );
        let several = shown(r#"Negotiate, Basic realm=x, BEARER Realm="y", error = "z""#);
        let expected = [
            "negotiate {}",
            r#"basic {"realm": "x"}"#,
            r#"bearer {"error": "z", "realm": "y"}"#,
        ];
        assert_eq!(several, expected);
    }

    #[test]
    fn broken_headers_end_the_list() {
        assert!(parse("").is_empty());
        assert!(parse("=x").is_empty());
        assert_eq!(shown(r#"Bearer realm="open"#), ["bearer {}"]);
        assert_eq!(shown("Bearer \"x\""), ["bearer {}"]);
    }
}
