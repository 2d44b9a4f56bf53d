//! HTTP clients, and what their errors mean.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

use super::hosts::HostConfig;
use super::tls::Trust;
use crate::error::{Error, Result};

const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// How many clients are kept; each has its own connections.
const MAX_CLIENTS: usize = 32;

/// Clients, which keep connections open between requests, by what they trust.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<Key, Client>>);

#[derive(PartialEq, Eq, Hash)]
struct Key {
    trust: Trust,
    /// What is in the files that it names.
    contents: Vec<Vec<u8>>,
    /// Not through the proxy of the environment: no proxy reaches a loopback address.
    direct: bool,
    dial_timeout: Duration,
}

impl Clients {
    /// A client for hosts like this.
    pub(super) fn get(&self, host: &HostConfig, direct: bool) -> Result<Client> {
        let key = Key {
            trust: host.trust.clone(),
            contents: host.trust.contents()?,
            direct,
            dial_timeout: host.dial_timeout.unwrap_or(DIAL_TIMEOUT),
        };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(&key)?;
        if clients.len() == MAX_CLIENTS {
            // Old certificates, most likely: whoever uses them still has a client of its own.
            clients.retain(|key, _| key.trust.is_default());
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn build(key: &Key) -> Result<Client> {
    // Redirects are followed by hand: credentials must not go along.
    let builder = Client::builder()
        .tls_backend_preconfigured(key.trust.client()?)
        .redirect(Policy::none())
        .connect_timeout(key.dial_timeout)
        .user_agent(concat!("pintle/", env!("CARGO_PKG_VERSION")));
    let builder = if key.direct { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| Error::Config {
        key: "HTTP client",
        value: String::new(),
        reason: innermost(&error),
    })
}

/// The text of the error that caused the others, without anything that changes from one attempt to the next.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.raw_os_error().is_some()
        {
            return io.kind().to_string();
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

/// Why a request came to nothing.
pub(super) fn unavailable(host: &str, error: &reqwest::Error) -> Error {
    let reason = if error.is_timeout() {
        "connection timed out".to_owned()
    } else {
        innermost(error)
    };
    Error::RegistryUnavailable {
        host: host.to_owned(),
        reason,
    }
}

/// Whether trying again may help: the connection broke, but the registry is there.
pub(super) fn is_transient(error: &reqwest::Error) -> bool {
    !error.is_builder() && !error.is_connect()
}

/// Whether the registry asks to try again later.
pub(super) fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error()
}
