//! What was asked of plugins, kept so that DEL runs with the configuration of its ADD.
//!
//! ```text
//! <cache_dir>/<sandbox id>:<interface>.json   written before ADD, and again with its result
//! ```

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{CniError, Result};
use super::pod::Pod;

/// One attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) pod: Pod,
    /// The network's configuration as it was then.
    pub(super) network: Value,
    /// ADD's result; `None` while it runs, or if it failed or died halfway.
    pub(super) result: Option<Value>,
}

/// The folder of entries.
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

impl Cache {
    pub(super) fn new(dir: PathBuf) -> Self {
        Cache(dir)
    }

    fn path(&self, id: &str, ifname: &str) -> PathBuf {
        self.0.join(format!("{id}:{ifname}.json"))
    }

    /// Writes an entry; after a crash it is there as before or whole.
    pub(super) fn store(&self, entry: &Entry) -> Result<()> {
        let path = self.path(&entry.pod.id, entry.pod.interface());
        fs::create_dir_all(&self.0).map_err(CniError::io("create", &self.0))?;
        let bytes = serde_json::to_vec(entry).map_err(|error| CniError::Io {
            verb: "encode",
            path: path.clone(),
            source: error.into(),
        })?;
        let temporary = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&bytes)?;
            // A reboot must not lose it: plugins may keep addresses across one.
            file.sync_data()
        };
        write().map_err(CniError::io("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(CniError::io("rename to", &path))
    }

    /// The entry of a pod's interface. One that can't be read counts as none.
    pub(super) fn load(&self, id: &str, ifname: &str) -> Result<Option<Entry>> {
        read(&self.path(id, ifname))
    }

    pub(super) fn remove(&self, id: &str, ifname: &str) -> Result<()> {
        let path = self.path(id, ifname);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(CniError::io("remove", path)),
        }
    }

    /// Every entry that can be read.
    pub(super) fn all(&self) -> Result<Vec<Entry>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(CniError::io("list", &self.0))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(CniError::io("list", &self.0))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                all.extend(read(&path)?);
            }
        }
        Ok(all)
    }
}

fn read(path: &Path) -> Result<Option<Entry>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(CniError::io("read", path))?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "unreadable CNI cache entry");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_come_back_and_garbage_counts_as_none() {
        let dir = tempfile::tempdir().expect("folder");
        let cache = Cache::new(dir.path().join("cni"));
        assert!(cache.all().expect("no folder is no error").is_empty());
        let pod = Pod {
            id: "a".into(),
            namespace: "default".into(),
            ..Pod::default()
        };
        let mut entry = Entry {
            pod,
            network: json!({"name": "n"}),
            result: None,
        };
        cache.store(&entry).expect("store");
        entry.result = Some(json!({"ips": []}));
        cache.store(&entry).expect("store again");
        let loaded = cache.load("a", "eth0").expect("load").expect("entry");
        assert_eq!(loaded.result, entry.result);
        assert_eq!(loaded.pod.namespace, "default");
        assert_eq!(cache.all().expect("all").len(), 1);
        fs::write(cache.path("b", "eth0"), "{").expect("write");
        assert!(cache.load("b", "eth0").expect("load").is_none());
        cache.remove("a", "eth0").expect("remove");
        cache.remove("a", "eth0").expect("removing twice");
        assert!(cache.load("a", "eth0").expect("load").is_none());
    }
}
