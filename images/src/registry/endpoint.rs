//! Where a registry is reached: its own host, or a mirror.

use std::net::IpAddr;

use reqwest::header::HeaderMap;
use reqwest::{Client, Url};

use crate::reference::split_port;

/// Docker Hub's name in references, and the host that serves its registry.
const DOCKER_DOMAIN: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";

/// What a host may be asked for (containerd's hosts.toml, `capabilities`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ability {
    /// Content by digest.
    Pull,
    /// What a tag points to.
    Resolve,
}

/// One place that serves a registry.
pub(super) struct Endpoint {
    /// E.g. `https://registry-1.docker.io/v2/`.
    pub(super) base: Url,
    /// Its name in errors: the registry's own, or the mirror's host.
    pub(super) host: String,
    pub(super) client: Client,
    pub(super) abilities: Vec<Ability>,
    /// Sent with each request to this host.
    pub(super) headers: HeaderMap,
    /// A mirror is told whose content is wanted: the registry's domain.
    pub(super) namespace: Option<String>,
}

impl Endpoint {
    pub(super) fn can(&self, ability: Ability) -> bool {
        self.abilities.contains(&ability)
    }

    /// An address below `/v2/`.
    pub(super) fn url(&self, path: &str) -> Result<Url, String> {
        let mut url = self.base.join(path).map_err(|error| error.to_string())?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }
}

/// The address of a registry that nothing is configured for.
pub(super) fn default_address(domain: &str, insecure: &[String]) -> String {
    let host = if domain == DOCKER_DOMAIN {
        DOCKER_HOST
    } else {
        domain
    };
    let plain = is_loopback(split_port(host).0) || is_insecure(host, insecure);
    let scheme = if plain { "http" } else { "https" };
    format!("{scheme}://{host}")
}

/// `localhost`, its subdomains, 127.0.0.0/8 and ::1.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => bare == "localhost" || bare.ends_with(".localhost"),
    }
}

/// A setting without a port means every port.
fn is_insecure(host: &str, insecure: &[String]) -> bool {
    insecure
        .iter()
        .any(|setting| setting == host || setting == split_port(host).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "a.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "[::2]", "example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn default_addresses() {
        let settings = ["a.example".to_owned(), "b.example:5000".to_owned()];
        for (domain, address) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("a.example", "http://a.example"),
            ("a.example:81", "http://a.example:81"),
            ("b.example:5000", "http://b.example:5000"),
            ("b.example", "https://b.example"),
            ("b.example:5001", "https://b.example:5001"),
        ] {
            assert_eq!(default_address(domain, &settings), address);
        }
    }
}
