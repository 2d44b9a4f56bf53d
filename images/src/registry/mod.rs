//! Talks to registries: OCI distribution-spec 1.1 and Docker's registry API v2.
//!
//! ```text
//! Registries ──> Session (one pull) ──> Exchange (one host: the mirrors, then the registry) ──> Endpoint, Client
//! ```

mod blob;
mod challenge;
mod endpoint;
mod exchange;
mod hosts;
mod http;
mod keyring;
mod push;
mod ranges;
mod session;
mod tls;
mod token;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::auth::Auth;
use crate::config::StoreConfig;
use crate::error::{Error, Result};
use crate::reference::Reference;

pub(crate) use push::Upload;
pub(crate) use ranges::BlobReader;
pub(crate) use session::Session;

#[cfg(feature = "fuzzing")]
pub(crate) use hosts::fuzz as fuzz_hosts;

use endpoint::Endpoint;
use exchange::{Exchange, Parts};
use hosts::HostConfig;
use http::Clients;
use keyring::Keyring;
use tokens::Tokens;

/// What all pulls share: connections and settings.
pub(crate) struct Registries {
    insecure: Vec<String>,
    certs_dir: Option<PathBuf>,
    progress_timeout: Duration,
    clients: Clients,
    keyring: Keyring,
    tokens: Arc<Tokens>,
    /// Bounds the pieces of blobs that wait in memory for their turn.
    pieces: Arc<Semaphore>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading from the mirrors and the registry.
    Pull,
    /// Writing to the registry itself.
    Push,
}

impl Registries {
    pub(crate) fn new(config: &StoreConfig) -> Registries {
        Registries {
            insecure: config.insecure_registries.clone(),
            certs_dir: config.certs_dir.clone(),
            progress_timeout: config.progress_timeout,
            clients: Clients::default(),
            keyring: Keyring::new(config.auth_file.clone()),
            tokens: Arc::default(),
            pieces: Arc::new(Semaphore::new(ranges::PIECES)),
        }
    }

    /// Prepares to pull or push `reference`: reads the configuration of its registry, which may have changed. Nothing is sent
    /// yet.
    pub(crate) fn session(
        &self,
        reference: &Reference,
        auth: Option<&Auth>,
        access: Access,
    ) -> Result<Session> {
        let domain = reference.domain();
        let hosts = hosts::read(self.certs_dir.as_deref(), domain)?;
        let count = hosts.len();
        let mut exchanges = Vec::with_capacity(count);
        for (i, host) in hosts.iter().enumerate() {
            let is_registry = i + 1 == count;
            if access == Access::Push && !is_registry {
                continue;
            }
            let endpoint = self.endpoint(host, domain, is_registry)?;
            // A mirror sees credentials only if they were given for it by name.
            let own = |auth: &&Auth| match (&auth.server_address, is_registry) {
                (_, true) => auth.is_for(domain),
                (Some(_), false) => auth.is_for(&endpoint.host),
                (None, false) => false,
            };
            let credentials = auth.filter(own).map(|auth| auth.credentials.clone());
            let name = if is_registry {
                domain.to_owned()
            } else {
                endpoint.host.clone()
            };
            exchanges.push(Exchange::new(Parts {
                endpoint,
                path: reference.path(),
                actions: if access == Access::Push {
                    "pull,push"
                } else {
                    "pull"
                },
                credentials,
                keyring: Some((self.keyring.clone(), name)),
                tokens: Arc::clone(&self.tokens),
                progress_timeout: self.progress_timeout,
                has_next: !is_registry,
            }));
        }
        Ok(Session::new(
            exchanges,
            reference.path(),
            Arc::clone(&self.pieces),
        ))
    }

    fn endpoint(&self, host: &HostConfig, domain: &str, is_registry: bool) -> Result<Endpoint> {
        let own = || endpoint::default_address(domain, &self.insecure);
        let address = host.address.clone().unwrap_or_else(own);
        let bad = |reason: &str| Error::Config {
            key: "registry address",
            value: address.clone(),
            reason: reason.to_owned(),
        };
        let mut base = Url::parse(&address).map_err(|error| bad(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad("the scheme is neither http nor https"));
        }
        let name = base.host_str().ok_or_else(|| bad("it names no host"))?.to_owned();
        let path = base.path().trim_end_matches('/').to_owned();
        let add = if host.override_path || path.ends_with("/v2") {
            "/"
        } else {
            "/v2/"
        };
        base.set_path(&format!("{path}{add}"));
        let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Endpoint {
            client: self.clients.get(host, endpoint::is_loopback(&name))?,
            host: if is_registry {
                domain.to_owned()
            } else {
                format!("{name}{port}")
            },
            abilities: host.abilities.clone(),
            headers: headers(host).map_err(|reason| bad(&reason))?,
            namespace: (!is_registry).then(|| domain.to_owned()),
            base,
        })
    }
}

fn headers(host: &HostConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &host.headers {
        let parsed = HeaderName::try_from(name)
            .ok()
            .zip(HeaderValue::from_str(value).ok());
        let (parsed, mut value) = parsed.ok_or_else(|| format!("header {name:?} is malformed"))?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}
