//! One pull's conversation with one repository: its mirrors in order, then the registry itself.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response, Url};
use tokio::sync::Semaphore;

use super::endpoint::Ability;
use super::exchange::{Exchange, Request};
use super::http;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest;

/// See the module's text.
pub(crate) struct Session {
    /// At least one; the last is the registry itself, whose errors count.
    exchanges: Vec<Exchange>,
    path: String,
    /// See [`super::ranges`].
    pub(super) pieces: Arc<Semaphore>,
}

/// Hosts that are asked until one gives what is wanted; the last one's error is the answer otherwise.
struct Hosts<'a> {
    hosts: Vec<&'a Exchange>,
    next: usize,
}

impl<'a> Hosts<'a> {
    fn current(&self) -> &'a Exchange {
        self.hosts[self.next]
    }

    /// `None` if the next host is to be asked.
    fn settle<T>(&mut self, answer: Result<T>) -> Option<Result<T>> {
        match answer {
            Err(error) if self.next + 1 < self.hosts.len() => {
                tracing::debug!(host = self.current().host(), %error, "asked in vain");
                self.next += 1;
                None
            }
            answer => Some(answer),
        }
    }
}

/// A manifest or index, verified if its digest was known.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

impl Session {
    pub(super) fn new(exchanges: Vec<Exchange>, path: &str, pieces: Arc<Semaphore>) -> Session {
        Session {
            exchanges,
            path: path.to_owned(),
            pieces,
        }
    }

    /// The hosts to ask for this, one after the other.
    fn hosts(&self, ability: Ability) -> Result<Hosts<'_>> {
        let able: Vec<&Exchange> = self
            .exchanges
            .iter()
            .filter(|exchange| exchange.endpoint.can(ability))
            .collect();
        // If all of them are down, the last one says so once more.
        let up = able
            .iter()
            .copied()
            .filter(|exchange| !exchange.is_down())
            .collect::<Vec<_>>();
        let hosts = if up.is_empty() {
            able.last().copied().into_iter().collect()
        } else {
            up
        };
        if hosts.is_empty() {
            let reason = "no host of it may be asked for this".to_owned();
            return Err(Error::RegistryUnavailable {
                host: self.path.clone(),
                reason,
            });
        }
        Ok(Hosts { hosts, next: 0 })
    }

    pub(super) fn url(&self, exchange: &Exchange, kind: &str, name: &str) -> Result<Url> {
        let url = exchange.endpoint.url(&format!("{}/{kind}/{name}", self.path));
        url.map_err(|reason| exchange.protocol(name, &reason))
    }

    /// The digest that a tag points to now; `None` if the registry does not say it.
    pub(crate) async fn resolve(&self, tag: &str) -> Result<Option<Digest>> {
        let what = format!("manifest {tag} of {}", self.path);
        let mut hosts = self.hosts(ability_for(tag))?;
        let answer = loop {
            let answer = self.ask_manifest(hosts.current(), Method::HEAD, tag, &what).await;
            if let Some(answer) = hosts.settle(answer) {
                break answer;
            }
        };
        match answer {
            Ok(response) => {
                let digest = response
                    .headers()
                    .get("docker-content-digest")
                    .and_then(|value| value.to_str().ok());
                Ok(digest.and_then(|digest| digest.parse().ok()))
            }
            // Some registries know no HEAD; the GET that follows says what is really wrong.
            Err(Error::RegistryStatus { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask_manifest(
        &self,
        exchange: &Exchange,
        method: Method,
        target: &str,
        what: &str,
    ) -> Result<Response> {
        let url = self.url(exchange, "manifests", target)?;
        exchange
            .send(&Request {
                method,
                url,
                what,
                accept: Some(manifest::ACCEPT),
                from: 0,
                to: None,
            })
            .await
    }

    /// Fetches a manifest or index by digest, or by a tag whose digest is not known.
    pub(crate) async fn manifest(&self, target: &str, expected: Option<Digest>) -> Result<Fetched> {
        let mut hosts = self.hosts(ability_for(target))?;
        loop {
            let answer = self.manifest_from(hosts.current(), target, expected).await;
            if let Some(answer) = hosts.settle(answer) {
                return answer;
            }
        }
    }

    async fn manifest_from(
        &self,
        exchange: &Exchange,
        target: &str,
        expected: Option<Digest>,
    ) -> Result<Fetched> {
        let what = format!("manifest {target} of {}", self.path);
        let response = self.ask_manifest(exchange, Method::GET, target, &what).await?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let bytes = body(exchange, response, manifest::MAX_MANIFEST, &what).await?;
        let digest = Digest::of(&bytes);
        match expected {
            Some(expected) if expected != digest => Err(Error::DigestMismatch { digest: expected }),
            _ => Ok(Fetched {
                digest,
                content_type,
                bytes,
            }),
        }
    }

    /// The index of what refers to a manifest (distribution-spec 1.1, "Listing Referrers"), else the one below the tag
    /// that stands for it where a registry has no such list. `None` if there is neither.
    pub(crate) async fn referrers(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let what = format!("referrers of {digest}");
        let registry = self.registry();
        let request = Request {
            method: Method::GET,
            url: self.url(registry, "referrers", &digest.to_string())?,
            what: &what,
            accept: Some(manifest::ACCEPT),
            from: 0,
            to: None,
        };
        match registry.send(&request).await {
            Ok(response) => {
                return body(registry, response, manifest::MAX_MANIFEST, &what)
                    .await
                    .map(Some);
            }
            Err(Error::NotFound { .. } | Error::RegistryStatus { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.manifest(&format!("sha256-{}", digest.hex()), None).await {
            Ok(fetched) => Ok(Some(fetched.bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches a blob that fits in memory and verifies it.
    pub(crate) async fn small_blob(&self, digest: &Digest, size: u64, limit: u64) -> Result<Bytes> {
        let mut hosts = self.hosts(Ability::Pull)?;
        loop {
            let answer = self.small_blob_from(hosts.current(), digest, size, limit).await;
            if let Some(answer) = hosts.settle(answer) {
                return answer;
            }
        }
    }

    async fn small_blob_from(
        &self,
        exchange: &Exchange,
        digest: &Digest,
        size: u64,
        limit: u64,
    ) -> Result<Bytes> {
        let what = format!("blob {digest} of {}", self.path);
        if size > limit {
            return Err(exchange.protocol(&what, "it is too large"));
        }
        let response = self.ask_blob(exchange, digest, (0, None), &what).await?;
        let bytes = body(exchange, response, size, &what).await?;
        if bytes.len() as u64 != size {
            return Err(Error::SizeMismatch {
                digest: *digest,
                expected: size,
            });
        }
        if Digest::of(&bytes) != *digest {
            return Err(Error::DigestMismatch { digest: *digest });
        }
        Ok(bytes)
    }

    async fn ask_blob(
        &self,
        exchange: &Exchange,
        digest: &Digest,
        (from, to): (u64, Option<u64>),
        what: &str,
    ) -> Result<Response> {
        let url = self.url(exchange, "blobs", &digest.to_string())?;
        exchange
            .send(&Request {
                method: Method::GET,
                url,
                what,
                accept: None,
                from,
                to,
            })
            .await
    }

    /// The registry itself.
    pub(super) fn registry(&self) -> &Exchange {
        self.exchange(usize::MAX)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// One of the hosts that [`Session::open_blob`] named.
    pub(super) fn exchange(&self, host: usize) -> &Exchange {
        &self.exchanges[host.min(self.exchanges.len() - 1)]
    }

    /// Opens a blob from one byte to another, or to its end, at the first host that has it, else at one of the places `elsewhere`.
    /// Gives back which host answers, too.
    pub(super) async fn open_blob(
        &self,
        digest: &Digest,
        (from, to): (u64, Option<u64>),
        elsewhere: &[Url],
        what: &str,
    ) -> Result<(usize, Response)> {
        let mut hosts = self.hosts(Ability::Pull)?;
        let mut answer = loop {
            let exchange = hosts.current();
            let answer = self.ask_blob(exchange, digest, (from, to), what).await;
            let host = self
                .exchanges
                .iter()
                .position(|other| std::ptr::eq(other, exchange))
                .unwrap_or_default();
            if let Some(answer) = hosts.settle(answer.map(|response| (host, response))) {
                break answer;
            }
        };
        let last = self.exchanges.len() - 1;
        let registry = self.exchange(last);
        for url in elsewhere.iter().filter(|url| registry.may_fetch_from(url)) {
            let Err(Error::NotFound { .. }) = &answer else {
                break;
            };
            let request = Request {
                method: Method::GET,
                url: url.clone(),
                what,
                accept: None,
                from,
                to,
            };
            answer = registry.send(&request).await.map(|response| (last, response));
        }
        answer
    }
}

/// A tag must be resolved by a host that is trusted to know it; what has a digest may come from anywhere.
fn ability_for(target: &str) -> Ability {
    if target.contains(':') {
        Ability::Pull
    } else {
        Ability::Resolve
    }
}

pub(super) async fn body(
    exchange: &Exchange,
    mut response: Response,
    limit: u64,
    what: &str,
) -> Result<Bytes> {
    let mut body = Vec::new();
    loop {
        let chunk = exchange.chunk(&mut response, what).await?;
        match chunk.map_err(|error| http::unavailable(exchange.host(), &error))? {
            None => return Ok(Bytes::from(body)),
            Some(chunk) if (body.len() + chunk.len()) as u64 > limit => {
                return Err(exchange.protocol(what, "the answer is longer than it may be"));
            }
            Some(chunk) => body.extend_from_slice(&chunk),
        }
    }
}
