//! Credentials for a registry, in every form that docker's `config.json` and the CRI's `AuthConfig` know.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::error::{Error, Result};

/// Credentials, and the registry they are meant for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Auth {
    /// The one host that may see the credentials, with or without a scheme; `None` means the registry
    /// that the reference names.
    pub server_address: Option<String>,
    /// The secret.
    pub credentials: Credentials,
}

/// A secret. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// The user.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// An OAuth2 refresh token, exchanged for an access token at the registry's token server.
    IdentityToken(String),
    /// A bearer token that is sent as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Basic { username, .. } => write!(f, "Basic({username:?}, …)"),
            Credentials::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Credentials::RegistryToken(_) => f.write_str("RegistryToken(…)"),
        }
    }
}

/// The fields as they come; an empty text is a field that is not set.
#[derive(Clone, Default)]
pub struct AuthFields {
    /// User name, with `password`.
    pub username: String,
    /// Password, with `username`.
    pub password: String,
    /// Base64 of `user:password`; NUL bytes at its end don't count.
    pub auth: String,
    /// The host these credentials are for.
    pub server_address: String,
    /// OAuth2 refresh token.
    pub identity_token: String,
    /// Bearer token.
    pub registry_token: String,
}

impl Auth {
    /// Picks the credentials: user name and password before identity token, before `auth`, before registry token.
    /// `None` when no field is set.
    ///
    /// # Errors
    /// [`Error::BadCredentials`] when `auth` is not base64 of `user:password`.
    pub fn from_fields(fields: &AuthFields) -> Result<Option<Auth>> {
        let credentials = if !fields.username.is_empty() {
            Credentials::Basic {
                username: fields.username.clone(),
                password: fields.password.clone(),
            }
        } else if !fields.identity_token.is_empty() {
            Credentials::IdentityToken(fields.identity_token.clone())
        } else if !fields.auth.is_empty() {
            decode_basic(&fields.auth)?
        } else if !fields.registry_token.is_empty() {
            Credentials::RegistryToken(fields.registry_token.clone())
        } else {
            return Ok(None);
        };
        let server_address = Some(fields.server_address.clone()).filter(|address| !address.is_empty());
        Ok(Some(Auth {
            server_address,
            credentials,
        }))
    }

    /// Whether the registry `domain` (host with port, as in a reference) may see these credentials.
    #[must_use]
    pub fn is_for(&self, domain: &str) -> bool {
        let Some(address) = &self.server_address else {
            return true;
        };
        let address = address
            .split_once("://")
            .map_or(address.as_str(), |(_, rest)| rest);
        let host = address.split('/').next().unwrap_or(address);
        canonical(host).eq_ignore_ascii_case(canonical(domain))
    }
}

/// Docker Hub has several names, and is one registry.
fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

fn decode_basic(auth: &str) -> Result<Credentials> {
    let engine = if auth.ends_with('=') || auth.len().is_multiple_of(4) {
        STANDARD
    } else {
        STANDARD_NO_PAD
    };
    let bytes = engine.decode(auth).map_err(|_| Error::BadCredentials {
        reason: "auth is not base64",
    })?;
    let text = String::from_utf8(bytes).map_err(|_| Error::BadCredentials {
        reason: "auth is not UTF-8",
    })?;
    let (username, password) = text
        .trim_end_matches('\0')
        .split_once(':')
        .ok_or(Error::BadCredentials {
            reason: "auth has no colon between user and password",
        })?;
    Ok(Credentials::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn order_of_fields() {
        let mut fields = AuthFields {
            registry_token: "r".into(),
            ..AuthFields::default()
        };
        let pick = |fields: &AuthFields| Auth::from_fields(fields).unwrap().unwrap().credentials;
        assert_eq!(pick(&fields), Credentials::RegistryToken("r".into()));
        fields.auth = STANDARD.encode("u:p:q\0\0");
        assert_eq!(pick(&fields), basic("u", "p:q"));
        fields.identity_token = "i".into();
        assert_eq!(pick(&fields), Credentials::IdentityToken("i".into()));
        fields.username = "name".into();
        assert_eq!(pick(&fields), basic("name", ""));
        assert_eq!(Auth::from_fields(&AuthFields::default()).unwrap(), None);
    }

    #[test]
    fn refuses_broken_auth() {
        for auth in ["***", "bm9jb2xvbg==", "/////w=="] {
            let fields = AuthFields {
                auth: auth.into(),
                ..AuthFields::default()
            };
            assert!(
                matches!(Auth::from_fields(&fields), Err(Error::BadCredentials { .. })),
                "{auth}"
            );
        }
    }

    #[test]
    fn only_the_named_server_sees_them() {
        let auth = |address: Option<&str>| Auth {
            server_address: address.map(str::to_owned),
            credentials: basic("u", "p"),
        };
        assert!(auth(None).is_for("any.example"));
        assert!(auth(Some("https://index.docker.io/v1/")).is_for("docker.io"));
        assert!(auth(Some("localhost:5000")).is_for("localhost:5000"));
        assert!(!auth(Some("localhost:5000")).is_for("localhost:5001"));
        assert!(!auth(Some("http://a.example")).is_for("b.example"));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", basic("u", "hush")).contains("hush"));
    }
}
