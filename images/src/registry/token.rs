//! Answers challenges and gets access tokens (distribution-spec's token authentication, Docker's and OAuth2 flavours).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::http;
use crate::auth::Credentials;
use crate::error::{Error, Result};

const MAX_ANSWER: usize = 256 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);
/// The life of a token whose server does not tell it (distribution's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
const CLIENT_ID: &str = "pintle";

/// Who authenticates, and where.
pub(super) struct Authenticator<'a> {
    pub(super) client: &'a Client,
    /// The registry's name in errors.
    pub(super) host: &'a str,
    /// Whether the registry itself is spoken to over plain HTTP.
    pub(super) plain: bool,
    /// What the token must allow, e.g. `repository:library/busybox:pull`.
    pub(super) scope: &'a str,
    pub(super) credentials: Option<&'a Credentials>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    /// In seconds.
    #[serde(default)]
    expires_in: Option<u64>,
}

/// What to authenticate with from now on.
pub(super) struct Fresh {
    pub(super) header: HeaderValue,
    /// How long it is good, for a token.
    pub(super) life: Option<Duration>,
}

/// The value of an `Authorization` header, kept out of logs.
pub(super) fn header(scheme: &str, secret: &str) -> Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("{scheme} {secret}")).map_err(|_| Error::BadCredentials {
            reason: "they hold characters that a header can't",
        })?;
    value.set_sensitive(true);
    Ok(value)
}

/// `Basic` credentials as a header.
fn basic(username: &str, password: &str) -> Result<HeaderValue> {
    header("Basic", &STANDARD.encode(format!("{username}:{password}")))
}

impl Authenticator<'_> {
    /// Answers the challenges of a 401. `None` if there is nothing to answer them with, or if what was `used` is all
    /// there is.
    pub(super) async fn answer(
        &self,
        headers: &HeaderMap,
        used: Option<&HeaderValue>,
    ) -> Result<Option<Fresh>> {
        let headers = headers.get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> = headers
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let bearer = challenges.iter().find(|challenge| challenge.scheme == "bearer");
        let basic_wanted = challenges.iter().any(|challenge| challenge.scheme == "basic");
        match (bearer, self.credentials) {
            (_, Some(Credentials::RegistryToken(token))) if used.is_none() => {
                header("Bearer", token).map(|header| Some(Fresh { header, life: None }))
            }
            (_, Some(Credentials::RegistryToken(_))) => Ok(None),
            (Some(bearer), _) => self.token(bearer).await.map(Some),
            (None, Some(Credentials::Basic { username, password })) if basic_wanted && used.is_none() => {
                basic(username, password).map(|header| Some(Fresh { header, life: None }))
            }
            _ => Ok(None),
        }
    }

    /// Asks the token server that `challenge` names.
    async fn token(&self, challenge: &Challenge) -> Result<Fresh> {
        let realm = self.realm(challenge)?;
        let service = challenge.parameters.get("service").map(String::as_str);
        let request = match self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                let form = self.form(&realm, service, token);
                let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                self.client.post(realm).header(CONTENT_TYPE, form_type).body(form)
            }
            Some(Credentials::Basic { username, password }) => {
                let url = self.query(realm, service);
                self.client
                    .get(url)
                    .header(AUTHORIZATION, basic(username, password)?)
            }
            Some(Credentials::RegistryToken(_)) | None => self.client.get(self.query(realm, service)),
        };
        let response = request.timeout(TIMEOUT).send().await;
        let mut response = response.map_err(|error| http::unavailable(self.host, &error))?;
        self.check(response.status())?;
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| http::unavailable(self.host, &error))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(self.protocol("the token server's answer is too long"));
            }
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| self.protocol("the token server's answer is not a token"))?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| self.protocol("the token server sent no token"))?;
        Ok(Fresh {
            header: header("Bearer", &token)?,
            life: Some(answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs)),
        })
    }

    /// The token server's address. Credentials go there, so an encrypted registry can't send them elsewhere in
    /// the clear.
    fn realm(&self, challenge: &Challenge) -> Result<Url> {
        let realm = challenge
            .parameters
            .get("realm")
            .and_then(|realm| Url::parse(realm).ok());
        let realm = realm.ok_or_else(|| self.protocol("the challenge names no token server"))?;
        match realm.scheme() {
            "https" => Ok(realm),
            "http" if self.plain => Ok(realm),
            _ => Err(self.protocol("the token server is not encrypted, but the registry is")),
        }
    }

    fn query(&self, mut realm: Url, service: Option<&str>) -> Url {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", self.scope);
        if let Some(Credentials::Basic { username, .. }) = self.credentials {
            query.append_pair("account", username);
        }
        drop(query);
        realm
    }

    fn form(&self, realm: &Url, service: Option<&str>, token: &str) -> String {
        let mut form = realm.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", self.scope)
            .append_pair("refresh_token", token);
        form.query().unwrap_or_default().to_owned()
    }

    fn check(&self, status: StatusCode) -> Result<()> {
        let (host, what) = (self.host.to_owned(), "token".to_owned());
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                Err(Error::Unauthorized {
                    host,
                    what,
                    status: status.to_string(),
                })
            }
            status => Err(Error::RegistryStatus {
                host,
                what,
                status: status.to_string(),
            }),
        }
    }

    fn protocol(&self, reason: &str) -> Error {
        Error::RegistryProtocol {
            host: self.host.to_owned(),
            what: "token".to_owned(),
            reason: reason.to_owned(),
        }
    }
}
