//! One-time tokens: what an RPC has granted, until the client comes for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::time::Instant;

use super::error::StreamError;

/// How long a token is good for.
const LIFE: Duration = Duration::from_secs(60);
/// Tokens that may be out at once.
const MOST: usize = 1000;
/// Random bytes in a token: eight characters.
const BYTES: usize = 6;

/// Tokens, and what each stands for.
#[derive(Debug)]
pub(super) struct Tokens<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Tokens<T> {
    /// A token for `target`.
    ///
    /// # Errors
    /// [`StreamError::TooManyWaiting`].
    pub(super) fn issue(&self, target: T) -> Result<String, StreamError> {
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST {
            tokens.retain(|_, (until, _)| *until > now);
        }
        if tokens.len() >= MOST {
            return Err(StreamError::TooManyWaiting);
        }
        let mut bytes = [0; BYTES];
        // getrandom(2) can't fail for a few bytes on the kernels that have what containers need.
        getrandom::fill(&mut bytes).expect("the kernel has random numbers");
        let token = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        // Two equal ones are not to be expected; the earlier would be void then.
        tokens.insert(token.clone(), (now + LIFE, target));
        Ok(token)
    }

    /// What a token stands for; it is void from now on.
    pub(super) fn redeem(&self, token: &str) -> Option<T> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, target) = tokens.remove(token)?;
        (until > Instant::now()).then_some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_once_and_for_a_minute() {
        let tokens = Tokens::default();
        let (a, b) = (tokens.issue('a').unwrap(), tokens.issue('b').unwrap());
        assert_eq!(a.len(), 8);
        assert_ne!(a, b);
        assert_eq!(tokens.redeem(&a), Some('a'));
        assert_eq!(tokens.redeem(&a), None);
        assert_eq!(tokens.redeem("unknown"), None);
        tokio::time::advance(LIFE).await;
        assert_eq!(tokens.redeem(&b), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_out_at_once() {
        let tokens = Tokens::default();
        for _ in 0..MOST {
            tokens.issue(()).unwrap();
        }
        assert!(matches!(tokens.issue(()), Err(StreamError::TooManyWaiting)));
        tokio::time::advance(LIFE).await;
        let token = tokens.issue(()).unwrap();
        assert_eq!(tokens.redeem(&token), Some(()));
    }
}
