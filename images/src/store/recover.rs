//! Opens a store: makes what is missing, removes what a crash left, checks every record against the disk.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use oci_spec::image::ImageConfiguration;
use tokio::sync::Semaphore;

use super::Inner;
use super::place::Place;
use super::records::{Loaded, Records};
use super::snapshot::{read_file, read_record};
use super::state::{State, unique};
use super::temp::{TempFolder, remove_file, remove_tree};
use crate::config::StoreConfig;
use crate::digest::Digest;
use crate::error::{IoContext as _, Result};
use crate::registry::Registries;

/// Opens or makes the store.
pub(super) fn open(config: StoreConfig) -> Result<Inner> {
    let root = &config.root;
    // Only root may look in: layers hold setuid programs.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .at("create", root)?;
    // The database's lock is what keeps a second process out: nothing is removed before it is held.
    let records = Records::open(&root.join("records.redb"))?;
    for name in ["layers", "frames", "snapshots", "views", "empty", "none"] {
        let path = root.join(name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .at("create", &path)?;
    }
    let temp = TempFolder::open(root.join("tmp"))?;
    let mut state = State {
        pinned: config.pinned.clone(),
        ..State::default()
    };
    let loaded = records.load()?;
    let lost = Recovery {
        root,
        records: &records,
        state: &mut state,
    }
    .run(loaded)?;
    for diff_id in lost {
        remove_tree(&root.join("layers").join(diff_id.hex()))?;
        remove_file(&root.join("frames").join(diff_id.hex()))?;
    }
    let places = config.snapshot_places.iter().map(|path| {
        let is_known = |id: &str| state.snapshots.contains_key(id);
        Place::open(path, is_known)
    });
    let places = places.collect::<Result<_>>()?;
    Ok(Inner {
        registries: Registries::new(&config),
        layer_slots: Arc::new(Semaphore::new(config.max_concurrent_layers.max(1))),
        workers: Arc::new(Semaphore::new(workers(config.max_concurrent_layers))),
        root: File::open(root).at("open", root)?,
        temp,
        records,
        places,
        commit: Mutex::new(()),
        state: Mutex::new(state),
        flights: Mutex::new(HashMap::new()),
        config,
    })
}

const LEAST_WORKERS: usize = 2;

/// How many layers are unpacked at once. Each has two threads, of which one waits now and then.
fn workers(layers: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(LEAST_WORKERS, usize::from);
    cores.max(LEAST_WORKERS).min(layers.max(1))
}

struct Recovery<'a> {
    root: &'a Path,
    records: &'a Records,
    state: &'a mut State,
}

impl Recovery<'_> {
    /// Fills the state; gives back the layers that nobody holds.
    fn run(&mut self, loaded: Loaded) -> Result<Vec<Digest>> {
        let Loaded {
            images,
            names,
            layers,
        } = loaded;
        let on_disk = self.layers_on_disk()?;
        let mut gone: Vec<Digest> = Vec::new();
        for (diff_id, record) in layers {
            if on_disk.contains(&diff_id) {
                self.state.add_layer(diff_id, record, None);
            } else {
                gone.push(diff_id);
            }
        }
        self.remove_unknown(&on_disk)?;
        let mut broken = Vec::new();
        for (id, (record, config)) in images {
            let whole = record
                .held()
                .iter()
                .all(|diff_id| self.state.layers.contains_key(diff_id));
            match config.and_then(|config| serde_json::from_slice::<ImageConfiguration>(&config).ok()) {
                Some(config) if whole => {
                    record.held().iter().for_each(|diff_id| {
                        self.state.hold(diff_id);
                    });
                    self.state.put_image(record, config)?;
                }
                _ => {
                    tracing::warn!(image = %id, "an image's layers or configuration are gone: it is forgotten");
                    broken.push(record);
                }
            }
        }
        let (kept, dangling): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|(_, id)| self.state.images.contains_key(id));
        self.state.names = kept.into_iter().collect();
        let ids: Vec<Digest> = self.state.images.keys().copied().collect();
        ids.iter().for_each(|id| self.state.refresh(id));
        self.snapshots()?;
        self.views()?;
        // Every layer had one reference of nobody's until here.
        let all: Vec<Digest> = self.state.layers.keys().copied().collect();
        let unheld: Vec<Digest> = self
            .state
            .let_go(&all)
            .into_iter()
            .map(|layer| layer.diff_id)
            .collect();
        gone.extend(&unheld);
        if !(gone.is_empty() && broken.is_empty() && dangling.is_empty()) {
            self.records.change(|change| {
                gone.iter().try_for_each(|diff_id| change.drop_layer(diff_id))?;
                for record in &broken {
                    record
                        .content
                        .iter()
                        .try_for_each(|digest| change.drop_content(digest))?;
                    change.drop_image(&record.id)?;
                }
                dangling.iter().try_for_each(|(name, _)| change.drop_name(name))
            })?;
        }
        Ok(unheld)
    }

    fn layers_on_disk(&self) -> Result<BTreeSet<Digest>> {
        let folder = self.root.join("layers");
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let entry = entry.at("read", &folder)?;
            match entry.file_name().to_str().and_then(Digest::from_hex) {
                Some(diff_id) => drop(found.insert(diff_id)),
                None => remove_tree(&entry.path())?,
            }
        }
        Ok(found)
    }

    /// Removes layers that were given their place by a pull that got no further.
    fn remove_unknown(&self, on_disk: &BTreeSet<Digest>) -> Result<()> {
        for diff_id in on_disk
            .iter()
            .filter(|diff_id| !self.state.layers.contains_key(diff_id))
        {
            remove_tree(&self.root.join("layers").join(diff_id.hex()))?;
        }
        let folder = self.root.join("frames");
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let entry = entry.at("read", &folder)?;
            let diff_id = entry.file_name().to_str().and_then(Digest::from_hex);
            if !diff_id.is_some_and(|diff_id| self.state.layers.contains_key(&diff_id)) {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn views(&mut self) -> Result<()> {
        let folder = self.root.join("views");
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let entry = entry.at("read", &folder)?;
            let path = entry.path();
            let (Some(record), Ok(id)) = (read_file(&path), entry.file_name().into_string()) else {
                tracing::warn!(path = %path.display(), "a view without a record is removed");
                remove_file(&path)?;
                continue;
            };
            let mut layers = unique(&record.lowers);
            layers.retain(|diff_id| self.state.hold(diff_id));
            self.state.views.insert(id, layers);
        }
        Ok(())
    }

    fn snapshots(&mut self) -> Result<()> {
        let folder = self.root.join("snapshots");
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let entry = entry.at("read", &folder)?;
            let path = entry.path();
            let (Some(record), Ok(id)) = (read_record(&path), entry.file_name().into_string()) else {
                tracing::warn!(path = %path.display(), "a snapshot without a record is removed");
                remove_tree(&path)?;
                continue;
            };
            let mut layers = unique(&record.lowers);
            layers.retain(|diff_id| self.state.hold(diff_id));
            self.state.snapshots.insert(id, layers);
        }
        Ok(())
    }
}
