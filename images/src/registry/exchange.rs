//! One pull's conversation with one host: authentication, redirects, retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::http;
use super::keyring::Keyring;
use super::token::{self, Authenticator};
use super::tokens::{Key, Tokens, Who};
use crate::auth::Credentials;
use crate::error::{Error, Result};

const MAX_REDIRECTS: usize = 10;
/// How often a request is sent before a busy registry or a breaking connection is given up.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// See the module's text.
pub(super) struct Exchange {
    pub(super) endpoint: Endpoint,
    scope: String,
    /// Given with the pull.
    credentials: Option<Credentials>,
    /// Where the node's own are looked up, once they are asked for: which of its names, and in which repository.
    keyring: Option<(Keyring, String)>,
    path: String,
    tokens: Arc<Tokens>,
    key: Key,
    /// What the host accepted last.
    authorization: Mutex<Option<HeaderValue>>,
    progress_timeout: Duration,
    /// There is another host to ask: this one is not asked twice.
    has_next: bool,
    /// It could not be reached.
    down: AtomicBool,
}

/// What is asked for.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// For errors, e.g. `manifest latest of library/busybox`.
    pub(super) what: &'a str,
    pub(super) accept: Option<&'static str>,
    /// The first byte wanted.
    pub(super) from: u64,
    /// Where the wanted bytes end; `None` for the end of all.
    pub(super) to: Option<u64>,
}

/// What an [`Exchange`] is made of.
pub(super) struct Parts<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) path: &'a str,
    /// E.g. `pull` or `pull,push`.
    pub(super) actions: &'a str,
    pub(super) credentials: Option<Credentials>,
    /// The node's own credentials, and under which name of the host.
    pub(super) keyring: Option<(Keyring, String)>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) progress_timeout: Duration,
    pub(super) has_next: bool,
}

/// How one attempt ended.
enum Attempt {
    /// With an answer, good or bad.
    Done(Response),
    /// The registry asks to come back later.
    Busy(Response),
    /// The connection broke.
    Broken(reqwest::Error),
}

impl Exchange {
    pub(super) fn new(parts: Parts<'_>) -> Exchange {
        let Parts {
            endpoint,
            path,
            actions,
            credentials,
            keyring,
            tokens,
            progress_timeout,
            has_next,
        } = parts;
        let scope = format!("repository:{path}:{actions}");
        let who = match (&credentials, &keyring) {
            (None, Some((keyring, _))) => keyring.who(),
            (credentials, _) => Who::Given(credentials.clone()),
        };
        let key = Key {
            base: endpoint.base.to_string(),
            scope: scope.clone(),
            who,
        };
        Exchange {
            authorization: Mutex::new(tokens.get(&key)),
            endpoint,
            scope,
            credentials,
            keyring,
            path: path.to_owned(),
            tokens,
            key,
            progress_timeout,
            has_next,
            down: AtomicBool::new(false),
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// Whether asking this host is a waste of time, as far as this pull has seen.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether there is another host to ask.
    pub(super) fn has_next(&self) -> bool {
        self.has_next
    }

    /// An address that an image names: encrypted, unless its registry is not either.
    pub(super) fn may_fetch_from(&self, url: &Url) -> bool {
        url.scheme() == "https" || url.scheme() == self.endpoint.base.scheme()
    }

    pub(super) fn protocol(&self, what: &str, reason: &str) -> Error {
        Error::RegistryProtocol {
            host: self.host().to_owned(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn stalled(&self, what: &str) -> Error {
        Error::Stalled {
            host: self.host().to_owned(),
            what: what.to_owned(),
            seconds: self.progress_timeout.as_secs(),
        }
    }

    /// The next bytes of an answer's body. The outer error is a stall, the inner one a broken connection.
    pub(super) async fn chunk(
        &self,
        response: &mut Response,
        what: &str,
    ) -> Result<reqwest::Result<Option<Bytes>>> {
        let chunk = timeout(self.progress_timeout, response.chunk()).await;
        chunk.map_err(|_| {
            self.down.store(true, Ordering::Relaxed);
            self.stalled(what)
        })
    }

    /// Sends a request until it succeeds or it is clear that it won't.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response> {
        let answer = self.attempts(request).await;
        if let Err(Error::RegistryUnavailable { .. } | Error::Stalled { .. }) = &answer {
            self.down.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn attempts(&self, request: &Request<'_>) -> Result<Response> {
        let mut pause = FIRST_PAUSE;
        let attempts = if self.has_next { 1 } else { ATTEMPTS };
        for attempt in 1..=attempts {
            let last = attempt == attempts;
            let wait = match self.authorized(request).await? {
                Attempt::Done(response) => return Ok(response),
                Attempt::Busy(response) if last => return Err(self.refused(&response, request.what)),
                Attempt::Broken(error) if last => return Err(http::unavailable(self.host(), &error)),
                Attempt::Busy(response) => retry_after(response.headers()).unwrap_or(pause),
                Attempt::Broken(_) => pause,
            };
            tokio::time::sleep(wait.min(LONGEST_PAUSE)).await;
            pause *= 2;
        }
        Err(self.stalled(request.what))
    }

    /// One attempt, with what the registry accepted last; if it wants other credentials, once more with those.
    async fn authorized(&self, request: &Request<'_>) -> Result<Attempt> {
        let used = self.authorization().await?;
        let first = self.redirected(request, used.as_ref()).await?;
        let response = match first {
            // Only the registry itself is answered: a host that a redirect leads to could name a token server of
            // its own, and would be sent the credentials.
            Attempt::Done(response) if self.is_challenge(&response) => response,
            Attempt::Done(response) => return self.accept(response, request.what).map(Attempt::Done),
            other => return Ok(other),
        };
        let authorization = self.authenticate(&response, request.what, used.as_ref()).await?;
        match self.redirected(request, Some(&authorization)).await? {
            Attempt::Done(response) => self.accept(response, request.what).map(Attempt::Done),
            other => Ok(other),
        }
    }

    fn is_challenge(&self, response: &Response) -> bool {
        let own = response.url().origin() == self.endpoint.base.origin();
        own && response.status() == StatusCode::UNAUTHORIZED
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>> {
        if let Some(Credentials::RegistryToken(token)) = &self.credentials {
            return token::header("Bearer", token).map(Some);
        }
        Ok(self.authorization.lock().await.clone())
    }

    /// Answers a challenge. Several requests may be challenged at once: one fetches the token for all.
    async fn authenticate(
        &self,
        response: &Response,
        what: &str,
        used: Option<&HeaderValue>,
    ) -> Result<HeaderValue> {
        let mut authorization = self.authorization.lock().await;
        if let Some(newer) = authorization.as_ref().filter(|newer| Some(*newer) != used) {
            return Ok(newer.clone());
        }
        let own = match (&self.credentials, &self.keyring) {
            (None, Some((keyring, host))) => keyring.find(host, &self.path).await?,
            _ => None,
        };
        let authenticator = Authenticator {
            client: &self.endpoint.client,
            host: self.host(),
            plain: self.endpoint.base.scheme() == "http",
            scope: &self.scope,
            credentials: self.credentials.as_ref().or(own.as_ref()),
        };
        let fresh = authenticator.answer(response.headers(), used).await?;
        let fresh = fresh.ok_or_else(|| self.refused(response, what))?;
        if let Some(life) = fresh.life {
            self.tokens.put(self.key.clone(), fresh.header.clone(), life);
        }
        *authorization = Some(fresh.header.clone());
        Ok(fresh.header)
    }

    /// Sends one request and follows redirects. Credentials and the host's own headers stay with its own origin, and
    /// an encrypted connection never leads to a plain one.
    async fn redirected(
        &self,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Attempt> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let message = self.message(request, &url, authorization);
            let response = match timeout(self.progress_timeout, message.send()).await {
                Err(_) => return Err(self.stalled(request.what)),
                Ok(Err(error)) if http::is_transient(&error) => return Ok(Attempt::Broken(error)),
                Ok(Err(error)) => return Err(http::unavailable(self.host(), &error)),
                Ok(Ok(response)) => response,
            };
            let status = response.status();
            if http::is_busy(status) {
                return Ok(Attempt::Busy(response));
            }
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok(Attempt::Done(response));
            }
            url = self.target(&response, &url, request.what)?;
        }
        Err(self.protocol(request.what, "too many redirects"))
    }

    /// The longest that nothing may happen.
    pub(super) fn patience(&self) -> Duration {
        self.progress_timeout
    }

    /// A request that sends something up, once, with what the host accepted last.
    pub(super) async fn upload(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        let own = url.origin() == self.endpoint.base.origin();
        let message = self.endpoint.client.request(method, url);
        if !own {
            return message;
        }
        let message = message.headers(self.endpoint.headers.clone());
        match self.authorization.lock().await.clone() {
            Some(authorization) => message.header(AUTHORIZATION, authorization),
            None => message,
        }
    }

    fn message(
        &self,
        request: &Request<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> reqwest::RequestBuilder {
        let mut message = self.endpoint.client.request(request.method.clone(), url.clone());
        if let Some(accept) = request.accept {
            message = message.header(ACCEPT, accept);
        }
        match request.to {
            Some(end) => {
                message = message.header(RANGE, format!("bytes={}-{}", request.from, end.max(1) - 1));
            }
            None if request.from > 0 => message = message.header(RANGE, format!("bytes={}-", request.from)),
            None => {}
        }
        if url.origin() != self.endpoint.base.origin() {
            return message;
        }
        if let Some(authorization) = authorization {
            message = message.header(AUTHORIZATION, authorization);
        }
        message.headers(self.endpoint.headers.clone())
    }

    fn target(&self, response: &Response, from: &Url, what: &str) -> Result<Url> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        let url = location.and_then(|location| from.join(location).ok());
        let url = url.ok_or_else(|| self.protocol(what, "a redirect without a target"))?;
        match (from.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => Ok(url),
            _ => Err(self.protocol(what, "a redirect away from encryption")),
        }
    }

    pub(super) fn accept(&self, response: Response, what: &str) -> Result<Response> {
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refused(&response, what))
        }
    }

    fn refused(&self, response: &Response, what: &str) -> Error {
        let (host, what) = (self.host().to_owned(), what.to_owned());
        match response.status() {
            StatusCode::NOT_FOUND => Error::NotFound { host, what },
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Error::Unauthorized {
                host,
                what,
                status: status.to_string(),
            },
            status => Error::RegistryStatus {
                host,
                what,
                status: status.to_string(),
            },
        }
    }
}

/// How long the registry asks to wait: seconds, or until a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    // A date that is past means now.
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_when_to_come_again() {
        let wait = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]))
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let date = SystemTime::now() + Duration::from_secs(100);
        let left = wait(&httpdate::fmt_http_date(date)).unwrap();
        assert!((50..=100).contains(&left.as_secs()), "{left:?}");
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
