//! The durable records, in redb. Values are JSON, so that a later version can add fields.

use std::collections::BTreeMap;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state::unique;
use crate::digest::Digest;
use crate::error::{DatabaseContext as _, Error, Result};
use crate::unpack::{RootAttributes, Unpacked};

/// Image id → [`ImageRecord`].
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("images");
/// `domain/path:tag` or `domain/path@digest` → image id.
const NAMES: TableDefinition<'_, &str, &str> = TableDefinition::new("names");
/// Diff id → [`LayerRecord`].
const LAYERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("layers");
/// Digest → the bytes of a configuration, manifest or index.
const CONTENT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("content");
/// The records are few and all of them are held in memory anyway.
const CACHE_BYTES: usize = 1 << 20;

/// An image, without its names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// The digest of the configuration.
    pub(crate) id: Digest,
    /// The manifest it was pulled by last.
    pub(crate) manifest: Digest,
    /// Configuration, manifests and indexes kept for it.
    pub(crate) content: Vec<Digest>,
    /// Diff ids, the base first.
    pub(crate) layers: Vec<Digest>,
    /// A layer that lies on top of them and corrects folders (see [`super::fix`]).
    #[serde(default)]
    pub(crate) fix: Option<Digest>,
    /// Compressed bytes, with the configuration.
    pub(crate) size: u64,
    /// Of the manifest.
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A layer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Bytes of the disk.
    pub(crate) bytes: u64,
    /// Inodes.
    pub(crate) inodes: u64,
    /// What the layer says of the root folder.
    pub(crate) root: Option<RootAttributes>,
    /// It hides every layer below.
    #[serde(default)]
    pub(crate) opaque_root: bool,
    /// Folders that it has no entry for.
    #[serde(default)]
    pub(crate) implicit: Vec<String>,
    /// Its tar stream can be made again from the frame in `frames/`.
    #[serde(default)]
    pub(crate) framed: bool,
}

impl ImageRecord {
    /// Every layer that the image holds, once: it may have one several times.
    pub(crate) fn held(&self) -> Vec<Digest> {
        let all: Vec<Digest> = self.layers.iter().chain(&self.fix).copied().collect();
        unique(&all)
    }
}

impl From<Unpacked> for LayerRecord {
    fn from(unpacked: Unpacked) -> LayerRecord {
        let Unpacked {
            bytes,
            inodes,
            root,
            opaque_root,
            implicit,
            framed,
        } = unpacked;
        LayerRecord {
            bytes,
            inodes,
            root,
            opaque_root,
            implicit,
            framed,
        }
    }
}

/// Everything that is recorded.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// With the bytes of the configuration, if they are there.
    pub(crate) images: BTreeMap<Digest, (ImageRecord, Option<Vec<u8>>)>,
    pub(crate) names: BTreeMap<String, Digest>,
    pub(crate) layers: BTreeMap<Digest, LayerRecord>,
}

/// The database.
pub(crate) struct Records(Database);

impl Records {
    /// Opens the database or makes it. Only one process can have it open.
    pub(crate) fn open(path: &Path) -> Result<Records> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let records = Records(builder.create(path).doing("open")?);
        records.change(Change::make_tables)?;
        Ok(records)
    }

    /// Runs `work` in one transaction, which is on disk when this returns, or has not happened.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&Change) -> Result<T>) -> Result<T> {
        let change = Change(self.0.begin_write().doing("begin change of")?);
        let value = work(&change)?;
        change.0.commit().doing("commit")?;
        Ok(value)
    }

    /// The bytes of a manifest, index or configuration.
    pub(crate) fn content(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let read = self.0.begin_read().doing("read")?;
        let content = read.open_table(CONTENT).doing("read")?;
        let bytes = content.get(digest.to_string().as_str()).doing("read")?;
        Ok(bytes.map(|bytes| bytes.value().to_vec()))
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        let read = self.0.begin_read().doing("read")?;
        let content = read.open_table(CONTENT).doing("read")?;
        for row in read.open_table(IMAGES).doing("read")?.iter().doing("read")? {
            let (key, value) = row.doing("read")?;
            let record: ImageRecord = decode(key.value(), value.value())?;
            let config = content
                .get(key.value())
                .doing("read")?
                .map(|config| config.value().to_vec());
            loaded.images.insert(record.id, (record, config));
        }
        for row in read.open_table(NAMES).doing("read")?.iter().doing("read")? {
            let (key, value) = row.doing("read")?;
            if let Ok(id) = value.value().parse() {
                loaded.names.insert(key.value().to_owned(), id);
            }
        }
        for row in read.open_table(LAYERS).doing("read")?.iter().doing("read")? {
            let (key, value) = row.doing("read")?;
            if let Ok(diff_id) = key.value().parse() {
                loaded.layers.insert(diff_id, decode(key.value(), value.value())?);
            }
        }
        Ok(loaded)
    }
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|source| Error::Record {
        key: key.to_owned(),
        source,
    })
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Record {
        key: key.to_owned(),
        source,
    })
}

/// A transaction under way.
pub(crate) struct Change(WriteTransaction);

impl Change {
    fn make_tables(&self) -> Result<()> {
        self.0.open_table(IMAGES).doing("make")?;
        self.0.open_table(NAMES).doing("make")?;
        self.0.open_table(LAYERS).doing("make")?;
        self.0.open_table(CONTENT).doing("make")?;
        Ok(())
    }

    fn put(&self, table: TableDefinition<'_, &str, &[u8]>, key: &str, value: &[u8]) -> Result<()> {
        self.0
            .open_table(table)
            .doing("write")?
            .insert(key, value)
            .doing("write")?;
        Ok(())
    }

    fn drop(&self, table: TableDefinition<'_, &str, &[u8]>, key: &str) -> Result<()> {
        self.0
            .open_table(table)
            .doing("write")?
            .remove(key)
            .doing("write")?;
        Ok(())
    }

    pub(crate) fn put_image(&self, record: &ImageRecord) -> Result<()> {
        let key = record.id.to_string();
        self.put(IMAGES, &key, &encode(&key, record)?)
    }

    pub(crate) fn drop_image(&self, id: &Digest) -> Result<()> {
        self.drop(IMAGES, &id.to_string())
    }

    pub(crate) fn put_layer(&self, diff_id: &Digest, record: &LayerRecord) -> Result<()> {
        let key = diff_id.to_string();
        self.put(LAYERS, &key, &encode(&key, record)?)
    }

    pub(crate) fn drop_layer(&self, diff_id: &Digest) -> Result<()> {
        self.drop(LAYERS, &diff_id.to_string())
    }

    pub(crate) fn put_content(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.put(CONTENT, &digest.to_string(), bytes)
    }

    pub(crate) fn drop_content(&self, digest: &Digest) -> Result<()> {
        self.drop(CONTENT, &digest.to_string())
    }

    pub(crate) fn put_name(&self, name: &str, id: &Digest) -> Result<()> {
        let id = id.to_string();
        self.0
            .open_table(NAMES)
            .doing("write")?
            .insert(name, id.as_str())
            .doing("write")?;
        Ok(())
    }

    pub(crate) fn drop_name(&self, name: &str) -> Result<()> {
        self.0
            .open_table(NAMES)
            .doing("write")?
            .remove(name)
            .doing("write")?;
        Ok(())
    }
}
