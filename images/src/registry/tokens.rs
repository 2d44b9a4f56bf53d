//! Access tokens that are good for a while, so that the next pull need not ask for one.
//!
//! A token is found again only for the same host, the same scope and the same credentials. What failed is not kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;

use crate::auth::Credentials;

/// How many tokens are kept; beyond that, the one that ends first goes.
const MAX_TOKENS: usize = 256;
/// A token is not trusted to be good for longer, whatever its server says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Given with the pull, or nobody's.
    Given(Option<Credentials>),
    /// The node's own, from a file of this modification time and length.
    Node(i64, i64, u64),
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The host's address.
    pub(super) base: String,
    pub(super) scope: String,
    pub(super) who: Who,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Key, (HeaderValue, Instant)>>);

impl Tokens {
    pub(super) fn get(&self, key: &Key) -> Option<HeaderValue> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, until) = tokens.get(key)?;
        (*until > Instant::now()).then(|| token.clone())
    }

    /// Keeps a token for nine tenths of its life: clocks and answers take their time.
    pub(super) fn put(&self, key: Key, token: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, until)| *until > now);
        }
        if tokens.len() >= MAX_TOKENS {
            let first = tokens.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                tokens.remove(&first);
            }
        }
        tokens.insert(key, (token, now + life.min(LONGEST).mul_f32(0.9)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scope: &str, password: &str) -> Key {
        Key {
            base: "https://r.example/v2/".to_owned(),
            scope: scope.to_owned(),
            who: Who::Given(Some(Credentials::Basic {
                username: "u".to_owned(),
                password: password.to_owned(),
            })),
        }
    }

    #[test]
    fn only_for_the_same_purpose_and_not_for_ever() {
        let tokens = Tokens::default();
        let token = HeaderValue::from_static("Bearer x");
        tokens.put(key("a", "p"), token.clone(), Duration::from_secs(60));
        assert_eq!(tokens.get(&key("a", "p")), Some(token.clone()));
        assert_eq!(tokens.get(&key("a", "q")), None);
        assert_eq!(tokens.get(&key("b", "p")), None);
        tokens.put(key("a", "p"), token, Duration::ZERO);
        assert_eq!(tokens.get(&key("a", "p")), None);
    }

    #[test]
    fn bounded() {
        let tokens = Tokens::default();
        for i in 0..2 * MAX_TOKENS {
            let life = Duration::from_secs(60 + i as u64);
            tokens.put(key(&i.to_string(), "p"), HeaderValue::from_static("t"), life);
        }
        assert_eq!(tokens.0.lock().unwrap().len(), MAX_TOKENS);
        assert!(tokens.get(&key("0", "p")).is_none());
        assert!(tokens.get(&key(&(2 * MAX_TOKENS - 1).to_string(), "p")).is_some());
    }
}
