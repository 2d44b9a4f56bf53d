//! Reads `hosts.toml` folders as containerd does: mirrors, certificates and headers of a registry.
//!
//! ```text
//! certs_dir/<host>_<port>_/   or   certs_dir/<host>:<port>/   or   certs_dir/_default/
//!   hosts.toml
//!   *.crt   *.cert + *.key    only read where there is no hosts.toml
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::endpoint::Ability;
use super::tls::{Identity, Trust};
use crate::error::{Error, IoContext as _, Result};
use crate::reference::split_port;

const FILE: &str = "hosts.toml";
const DEFAULT_FOLDER: &str = "_default";

/// A host as the configuration describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostConfig {
    /// Scheme, host and perhaps a path; `None` for the registry's own default.
    pub(super) address: Option<String>,
    pub(super) abilities: Vec<Ability>,
    pub(super) trust: Trust,
    /// Header names and values.
    pub(super) headers: Vec<(String, String)>,
    /// The address holds the whole path; no `/v2` is added.
    pub(super) override_path: bool,
    /// How long a connection may take to be made; `None` for the default.
    pub(super) dial_timeout: Option<Duration>,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: RawHost,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawHost {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore<String>>,
    client: Option<OneOrMore<OneOrMore<String>>>,
    skip_verify: bool,
    override_path: bool,
    dial_timeout: Option<String>,
    header: std::collections::BTreeMap<String, OneOrMore<String>>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMore<T> {
    More(Vec<T>),
    One(T),
}

impl<T: Clone> OneOrMore<T> {
    fn all(&self) -> Vec<T> {
        match self {
            OneOrMore::More(all) => all.clone(),
            OneOrMore::One(one) => vec![one.clone()],
        }
    }
}

/// The hosts to ask for a registry's content, the best first; the last is the registry itself.
pub(super) fn read(certs_dir: Option<&Path>, domain: &str) -> Result<Vec<HostConfig>> {
    for folder in certs_dir.iter().flat_map(|root| folders(root, domain)) {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => return parse(&text, &path, &folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
                let abilities = vec![Ability::Pull, Ability::Resolve];
                return Ok(vec![HostConfig {
                    abilities,
                    trust: bare_certificates(&folder)?,
                    ..HostConfig::default()
                }]);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(error).at("read", &path),
        }
    }
    Ok(vec![HostConfig {
        abilities: vec![Ability::Pull, Ability::Resolve],
        ..HostConfig::default()
    }])
}

fn folders(root: &Path, domain: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let (host, Some(port)) = split_port(domain) {
        folders.push(root.join(format!("{host}_{port}_")));
    }
    folders.push(root.join(domain));
    folders.push(root.join(DEFAULT_FOLDER));
    folders
}

fn parse(text: &str, path: &Path, folder: &Path) -> Result<Vec<HostConfig>> {
    let bad = |reason: String| Error::Config {
        key: "hosts.toml",
        value: path.display().to_string(),
        reason: reason.lines().next().unwrap_or_default().to_owned(),
    };
    let file: RawFile = toml::from_str(text).map_err(|error| bad(error.message().to_owned()))?;
    let mut hosts = Vec::new();
    for (address, raw) in file.host {
        let raw: RawHost = raw
            .try_into()
            .map_err(|error: toml::de::Error| bad(error.message().to_owned()))?;
        hosts.push(resolve(&raw, Some(with_scheme(&address)), folder).map_err(bad)?);
    }
    let server = file
        .server
        .filter(|server| !server.is_empty())
        .map(|server| with_scheme(&server));
    hosts.push(resolve(&file.own, server, folder).map_err(bad)?);
    Ok(hosts)
}

/// Parses a `hosts.toml` of a folder that does not exist.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(text: &str) {
    let folder = Path::new("/nonexistent");
    drop(parse(text, &folder.join(FILE), folder));
}

fn with_scheme(address: &str) -> String {
    if address.contains("://") {
        address.to_owned()
    } else {
        format!("https://{address}")
    }
}

fn resolve(raw: &RawHost, address: Option<String>, folder: &Path) -> Result<HostConfig, String> {
    let mut abilities = Vec::new();
    match &raw.capabilities {
        None => abilities = vec![Ability::Pull, Ability::Resolve],
        Some(names) => {
            for name in names {
                match name.as_str() {
                    "pull" => abilities.push(Ability::Pull),
                    "resolve" => abilities.push(Ability::Resolve),
                    "push" => {}
                    other => return Err(format!("unknown capability {other:?}")),
                }
            }
        }
    }
    let identities = raw
        .client
        .iter()
        .flat_map(OneOrMore::all)
        .map(|pair| identity(&pair.all(), folder));
    let trust = Trust {
        ca: raw
            .ca
            .iter()
            .flat_map(OneOrMore::all)
            .map(|ca| folder.join(ca))
            .collect(),
        identities: identities.collect::<Result<_, _>>()?,
        skip_verify: raw.skip_verify,
    };
    let header = |(name, values): (&String, &OneOrMore<String>)| {
        values
            .all()
            .into_iter()
            .map(|value| (name.clone(), value))
            .collect::<Vec<_>>()
    };
    let headers = raw.header.iter().flat_map(header).collect();
    Ok(HostConfig {
        address,
        abilities,
        trust,
        headers,
        override_path: raw.override_path,
        dial_timeout: raw.dial_timeout.as_deref().map(dial_timeout).transpose()?,
    })
}

/// A time as Go writes it, `1m30s` or `500ms`, above zero.
fn dial_timeout(text: &str) -> Result<Duration, String> {
    let bad = || format!("dial_timeout {text:?} is no time like \"10s\" or \"500ms\"");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(tail.len()),
        );
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    Some(total).filter(|total| !total.is_zero()).ok_or_else(bad)
}

/// A file that holds certificate and key, or one file for each.
fn identity(files: &[String], folder: &Path) -> Result<Identity, String> {
    match files {
        [both] => Ok(Identity {
            certificate: folder.join(both),
            key: folder.join(both),
        }),
        [certificate, key] => Ok(Identity {
            certificate: folder.join(certificate),
            key: folder.join(key),
        }),
        _ => Err("client must name a file, or a certificate and a key".to_owned()),
    }
}

/// Docker's older form: `*.crt` are authorities, `NAME.cert` with `NAME.key` our own certificates.
fn bare_certificates(folder: &Path) -> Result<Trust> {
    let mut trust = Trust::default();
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).at("read", folder)? {
        files.push(entry.at("read", folder)?.path());
    }
    files.sort();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.ca.push(file),
            Some("cert") => {
                trust.identities.push(Identity {
                    key: file.with_extension("key"),
                    certificate: file,
                });
            }
            _ => {}
        }
    }
    Ok(trust)
}

#[cfg(test)]
mod tests;
