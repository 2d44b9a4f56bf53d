//! What a store can be told.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Store`](crate::Store).
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The folder that holds everything; made if it is missing.
    pub root: PathBuf,
    /// Registries spoken to over plain HTTP, as `host` or `host:port`. Loopback addresses always are.
    pub insecure_registries: Vec<String>,
    /// Folder with a `hosts.toml` per registry; `None` for none.
    pub certs_dir: Option<PathBuf>,
    /// The node's own credentials, in the form of docker's `config.json`; used where a pull brings none.
    pub auth_file: Option<PathBuf>,
    /// Which images must be signed, and by whom (see `signature::policy`); `None` asks for no signature.
    pub signature_policy: Option<PathBuf>,
    /// How many layers are fetched and unpacked at once, over all pulls.
    pub max_concurrent_layers: usize,
    /// A pull fails when no byte has come for this long.
    pub progress_timeout: Duration,
    /// The most bytes that one layer may unpack to.
    pub max_layer_bytes: u64,
    /// Folders outside of `root` where snapshots may be made, too (see `Store::snapshot_in`).
    pub snapshot_places: Vec<PathBuf>,
    /// Images that are reported as pinned: names, with `*` for any text.
    pub pinned: Vec<String>,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            root: PathBuf::from("/var/lib/pintle/images"),
            insecure_registries: Vec::new(),
            certs_dir: None,
            auth_file: None,
            signature_policy: None,
            max_concurrent_layers: 6,
            progress_timeout: Duration::from_secs(60),
            max_layer_bytes: 256 << 30,
            snapshot_places: Vec::new(),
            pinned: Vec::new(),
        }
    }
}
