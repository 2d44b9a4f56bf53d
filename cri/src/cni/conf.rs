//! Network configurations: which file of the folder counts, and what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::error::{CniError, Result};
use super::version::Version;

/// A network: plugins to be run one after another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) plugins: Vec<Plugin>,
    pub(super) disable_check: bool,
    pub(super) disable_gc: bool,
    /// The configuration as it was read, for the cache.
    pub(super) source: Value,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plugin {
    /// The program's name.
    pub(super) kind: String,
    /// Capabilities that it declares to have.
    pub(super) capabilities: Vec<String>,
    /// Its configuration, handed on as it is.
    pub(super) conf: Map<String, Value>,
}

impl Network {
    /// Reads a configuration or a list; the error says what is wrong with it.
    pub(super) fn parse(source: Value) -> Result<Network, String> {
        let conf = source.as_object().ok_or("not a JSON object")?;
        let name = text(conf, "name")?;
        check_name(name)?;
        let version = version(conf)?;
        let plugins = match conf.get("plugins") {
            // A single plugin's configuration.
            None => vec![plugin(conf)?],
            Some(Value::Array(plugins)) => {
                let each = |value: &Value| plugin(value.as_object().ok_or("a plugin isn't a JSON object")?);
                plugins.iter().map(each).collect::<Result<Vec<_>, String>>()?
            }
            Some(_) => return Err("plugins isn't a list".into()),
        };
        if plugins.is_empty() {
            return Err("plugins is empty".into());
        }
        Ok(Network {
            name: name.to_owned(),
            version,
            plugins,
            disable_check: flag(conf, "disableCheck")?,
            disable_gc: flag(conf, "disableGC")?,
            source,
        })
    }
}

fn plugin(conf: &Map<String, Value>) -> Result<Plugin, String> {
    let kind = text(conf, "type")?;
    if kind.is_empty() || kind.contains('/') || kind.contains('\0') || kind == "." || kind == ".." {
        return Err(format!("type {kind:?} isn't the name of a program"));
    }
    let capabilities = match conf.get("capabilities") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(all)) => all
            .iter()
            .filter(|(_, on)| **on == Value::Bool(true))
            .map(|(name, _)| name.clone())
            .collect(),
        Some(_) => return Err(format!("capabilities of {kind} isn't an object")),
    };
    Ok(Plugin {
        kind: kind.to_owned(),
        capabilities,
        conf: conf.clone(),
    })
}

/// `cniVersion`, or the highest that is known out of `cniVersions`.
fn version(conf: &Map<String, Value>) -> Result<Version, String> {
    let mut best = None;
    if let Some(Value::Array(all)) = conf.get("cniVersions") {
        best = all
            .iter()
            .filter_map(|value| Version::parse(value.as_str()?))
            .max();
    }
    let single = text(conf, "cniVersion")?;
    match (best, Version::parse(single)) {
        (Some(best), known) => Ok(known.map_or(best, |known| known.max(best))),
        (None, Some(known)) => Ok(known),
        (None, None) => Err(format!("cniVersion {single:?} is not supported")),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(good) {
        return Err(format!("name {name:?} isn't a valid network name"));
    }
    Ok(())
}

fn text<'a>(conf: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    match conf.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{key} isn't a string")),
    }
}

fn flag(conf: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match conf.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        // Accepted by the reference library too.
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
        Some(_) => Err(format!("{key} isn't true or false")),
    }
}

/// The configuration folder, read again whenever it has changed.
#[derive(Debug)]
pub(super) struct ConfDir {
    dir: PathBuf,
    last: Mutex<Option<Scan>>,
}

/// What a scan found.
#[derive(Debug, Clone)]
struct Scan {
    files: Vec<(PathBuf, SystemTime, u64)>,
    network: Option<Arc<Network>>,
    skipped: Vec<String>,
}

impl ConfDir {
    pub(super) fn new(dir: PathBuf) -> Self {
        ConfDir {
            dir,
            last: Mutex::new(None),
        }
    }

    /// The first valid network by file name. A folder that doesn't exist is an empty one.
    pub(super) fn network(&self) -> Result<Arc<Network>> {
        let files = self.files()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let scan = match last.take() {
            Some(scan) if scan.files == files => scan,
            _ => scan(files),
        };
        let scan = last.insert(scan);
        scan.network.clone().ok_or_else(|| CniError::NotConfigured {
            dir: self.dir.clone(),
            skipped: scan.skipped.clone(),
        })
    }

    fn files(&self) -> Result<Vec<(PathBuf, SystemTime, u64)>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(CniError::io("list", &self.dir))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(CniError::io("list", &self.dir))?.path();
            let known = path
                .extension()
                .is_some_and(|ext| ext == "conf" || ext == "conflist" || ext == "json");
            if !known {
                continue;
            }
            // One that vanishes in between isn't there; one that can't be read is told of when it is read.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_file() {
                files.push((
                    path,
                    meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    meta.len(),
                ));
            }
        }
        files.sort();
        Ok(files)
    }
}

fn scan(files: Vec<(PathBuf, SystemTime, u64)>) -> Scan {
    let mut skipped = Vec::new();
    let mut network = None;
    for (path, _, _) in &files {
        match read(path) {
            Ok(found) => {
                network = Some(Arc::new(found));
                break;
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "skipping CNI configuration");
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                skipped.push(format!("{name}: {reason}"));
            }
        }
    }
    Scan {
        files,
        network,
        skipped,
    }
}

fn read(path: &Path) -> Result<Network, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let source = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Network::parse(source)
}

#[cfg(test)]
#[path = "conf/tests.rs"]
mod tests;
