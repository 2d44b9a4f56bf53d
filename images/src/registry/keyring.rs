//! The node's own credentials: a file in the form of docker's `config.json` (or podman's `auth.json`), and the
//! credential helpers that it names. They are used where a pull brings none. The file is read anew each time.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::tokens::Who;
use crate::auth::{Auth, AuthFields, Credentials};
use crate::error::{Error, IoContext as _, Result};

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER: u64 = 64 << 10;
/// What docker calls Docker Hub in its files and towards helpers.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// What helpers say where they know nothing (docker-credential-helpers, `credentials.go`).
const NOT_FOUND: &str = "credentials not found";
/// The user name of a helper's answer that is a refresh token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub(super) struct Keyring {
    file: Option<PathBuf>,
}

impl Keyring {
    pub(super) fn new(file: Option<PathBuf>) -> Keyring {
        Keyring { file }
    }

    /// Under which name tokens got by these credentials are kept; another one once the file has changed.
    pub(super) fn who(&self) -> Who {
        let stat = self.file.as_ref().and_then(|file| std::fs::metadata(file).ok());
        stat.map_or(Who::Given(None), |stat| {
            Who::Node(stat.mtime(), stat.mtime_nsec(), stat.len())
        })
    }

    /// The credentials for a repository of a host (with port).
    pub(super) async fn find(&self, host: &str, path: &str) -> Result<Option<Credentials>> {
        let Some(file) = &self.file else { return Ok(None) };
        let Some(parsed) = read(file)? else {
            return Ok(None);
        };
        let helper = parsed.cred_helpers.iter().find(|(key, _)| is_host(key, host));
        if let Some((_, helper)) = helper {
            return ask(helper, host).await;
        }
        if let Some(found) = parsed.entry(host, path) {
            let found = Auth::from_fields(&AuthFields {
                username: found.username.clone(),
                password: found.password.clone(),
                auth: found.auth.clone(),
                server_address: String::new(),
                identity_token: found.identitytoken.clone(),
                registry_token: found.registrytoken.clone(),
            })?;
            // A store leaves an empty entry behind for what it keeps itself.
            if let Some(found) = found {
                return Ok(Some(found.credentials));
            }
        }
        match parsed.creds_store.as_str() {
            "" => Ok(None),
            store => ask(store, host).await,
        }
    }
}

fn read(path: &Path) -> Result<Option<File>> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.at("read", path)?,
    };
    // The text may hold secrets, so the parser's own words are left out.
    let parsed = serde_json::from_slice(&text).map_err(|error| Error::Config {
        key: "auth_file",
        value: path.display().to_string(),
        reason: format!("line {}: not what docker's config.json holds", error.line()),
    })?;
    Ok(Some(parsed))
}

impl File {
    /// The entry whose key is the longest beginning of `host/path`, by whole components.
    fn entry(&self, host: &str, path: &str) -> Option<&Entry> {
        let entries = self.auths.iter().filter_map(|(key, entry)| {
            let (of_host, prefix) = split(key);
            let fits = is_host(of_host, host) && (prefix.is_empty() || is_below(prefix, path));
            fits.then_some((prefix.len(), entry))
        });
        entries.max_by_key(|(length, _)| *length).map(|(_, entry)| entry)
    }
}

/// The host of a key, and the path behind it. Addresses of registry APIs (`https://host/v1/`) mean the whole host.
fn split(key: &str) -> (&str, &str) {
    let (is_address, bare) = match key.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, key),
    };
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_matches('/');
    let is_version = is_address || matches!(path, "v1" | "v2");
    (host, if is_version { "" } else { path })
}

fn is_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_host(key: &str, host: &str) -> bool {
    let auth = Auth {
        server_address: Some(key.to_owned()),
        credentials: Credentials::RegistryToken(String::new()),
    };
    auth.is_for(host)
}

/// Runs `docker-credential-NAME get`.
async fn ask(name: &str, host: &str) -> Result<Option<Credentials>> {
    let failed = |reason: &'static str| Error::CredentialHelper {
        helper: name.to_owned(),
        reason,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(failed("its name is no plain word"));
    }
    let server = if host == "docker.io" { DOCKER_KEY } else { host };
    let answer = tokio::time::timeout(TIMEOUT, run(name, server)).await;
    let (success, output) = answer
        .map_err(|_| failed("it gave no answer in time"))?
        .map_err(|_| failed("it can't be run"))?;
    if !success {
        let knows_nothing = String::from_utf8_lossy(&output).contains(NOT_FOUND);
        return if knows_nothing {
            Ok(None)
        } else {
            Err(failed("it failed"))
        };
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| failed("its answer is malformed"))?;
    Ok(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        (TOKEN_USER, secret) => Some(Credentials::IdentityToken(secret)),
        (username, password) => Some(Credentials::Basic {
            username: username.to_owned(),
            password,
        }),
    })
}

async fn run(name: &str, server: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says what it thinks by its status.
        drop(stdin.write_all(server.as_bytes()).await);
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Keyring) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let keyring = Keyring::new(Some(path));
        (folder, keyring)
    }

    fn basic(username: &str) -> Option<Credentials> {
        Some(Credentials::Basic {
            username: username.to_owned(),
            password: "p".to_owned(),
        })
    }

    #[tokio::test]
    async fn the_closest_entry_counts() {
        let (_folder, keyring) = file(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
                "r.example:5000": {"username": "host", "password": "p"},
                "r.example:5000/team": {"username": "team", "password": "p"},
                "r.example:5000/team/app": {"username": "app", "password": "p"},
                "empty.example": {}}}"#,
        );
        for (host, path, expected) in [
            ("docker.io", "library/busybox", basic("hub")),
            ("r.example:5000", "other", basic("host")),
            ("r.example:5000", "teams/x", basic("host")),
            ("r.example:5000", "team/x", basic("team")),
            ("r.example:5000", "team/app", basic("app")),
            ("r.example", "team/app", None),
            ("empty.example", "x", None),
        ] {
            assert_eq!(keyring.find(host, path).await.unwrap(), expected, "{host}/{path}");
        }
        assert_eq!(Keyring::default().find("docker.io", "x").await.unwrap(), None);
        let gone = Keyring::new(Some("/nowhere/config.json".into()));
        assert_eq!(gone.find("docker.io", "x").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_broken_file_says_so_without_its_secrets() {
        let (_folder, keyring) = file("{\"auths\": {\"r\": \"hush\"}}");
        let error = keyring.find("r", "x").await.unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hush"), "{error}");
    }

    #[tokio::test]
    async fn helpers_are_plain_names_and_their_failures_are_told() {
        for name in ["../../bin/sh", "a b", ""] {
            let error = ask(name, "r").await.unwrap_err().to_string();
            assert!(error.contains("no plain word"), "{error}");
        }
        let error = ask("that-nobody-has", "r").await.unwrap_err().to_string();
        assert!(error.contains("can't be run"), "{error}");
    }
}
