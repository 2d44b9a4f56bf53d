//! Writes images as one archive that is an OCI image layout and what `docker load` reads at once.
//!
//! Layers are written plain, as their diff ids say: how they were compressed once is not kept. The image's id stays; its
//! manifest, and so its digest, is the one that was pulled only if its layers were plain from the beginning.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use serde_json::{Value, json};

use super::read::bad;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest;
use crate::store::{Store, Whole};

/// What was written of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The image's id.
    pub id: String,
    /// The digest of its manifest in the archive.
    pub manifest: Digest,
}

struct Writer<'a, W: Write> {
    tar: tar::Builder<W>,
    store: &'a Store,
    /// Blobs that are in the archive already.
    written: BTreeSet<Digest>,
}

impl Store {
    /// Writes images to `to`. Blocking. Each layer is read and checked on the way: one that is damaged on disk breaks
    /// the archive off.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::LayerUnavailable`], and whatever goes wrong with reading and writing.
    pub fn export(&self, keys: &[String], to: impl Write) -> Result<Vec<Exported>> {
        let wholes = keys
            .iter()
            .map(|key| self.whole(key))
            .collect::<Result<Vec<_>>>()?;
        let mut writer = Writer {
            tar: tar::Builder::new(to),
            store: self,
            written: BTreeSet::new(),
        };
        let (mut index, mut saved, mut exported) = (Vec::new(), Vec::new(), Vec::new());
        writer.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for whole in &wholes {
            let (digest, bytes) = writer.image(whole)?;
            let descriptor = json!({"mediaType": media_type(&bytes), "digest": digest, "size": bytes.len()});
            index.extend(named(&descriptor, &whole.image.repo_tags));
            let layers: Vec<String> = whole.image.layers.iter().map(blob_name).collect();
            saved.push(json!({
                "Config": blob_name(&whole.config_digest),
                "RepoTags": whole.image.repo_tags,
                "Layers": layers,
            }));
            exported.push(Exported {
                id: whole.image.id.clone(),
                manifest: digest,
            });
        }
        let index = json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": index});
        writer.file("index.json", index.to_string().as_bytes())?;
        writer.file("manifest.json", Value::from(saved).to_string().as_bytes())?;
        let mut to = writer.tar.into_inner().map_err(|error| failed(&error))?;
        to.flush().map_err(|error| failed(&error))?;
        Ok(exported)
    }
}

fn failed(error: &std::io::Error) -> Error {
    bad(format!("it can't be written: {error}"))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn media_type(manifest: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(manifest).unwrap_or_default();
    parsed["mediaType"]
        .as_str()
        .unwrap_or(manifest::OCI_MANIFEST)
        .to_owned()
}

/// The descriptor once for each name, as containerd and docker write it.
fn named(descriptor: &Value, tags: &[String]) -> Vec<Value> {
    if tags.is_empty() {
        return vec![descriptor.clone()];
    }
    let with_name = |name: &String| {
        let mut descriptor = descriptor.clone();
        let tag = name.rsplit(':').next().unwrap_or_default();
        descriptor["annotations"] = json!({
            "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag,
        });
        descriptor
    };
    tags.iter().map(with_name).collect()
}

impl<W: Write> Writer<'_, W> {
    fn entry(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        let appended = self.tar.append_data(&mut header, name, content);
        appended.map_err(|error| bad(format!("{name:?} can't be written: {error}")))
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    /// Writes what an image consists of; gives back its manifest.
    fn image(&mut self, whole: &Whole) -> Result<(Digest, Vec<u8>)> {
        let mut layers = Vec::new();
        let mut same = true;
        for (diff_id, descriptor) in whole.image.layers.iter().zip(&whole.manifest.layers) {
            same &= descriptor.text() == diff_id.to_string();
            let size = self.store.inner.layer_length(diff_id)?;
            layers.push(json!({"mediaType": manifest::OCI_LAYER, "digest": diff_id, "size": size}));
            if self.written.insert(*diff_id) {
                // The last read of the stream is the one that finds damage, so it is read to its very end.
                let mut stream = self.store.inner.layer_stream(diff_id)?;
                self.entry(&blob_name(diff_id), size, &mut stream)?;
                let rest = std::io::copy(&mut stream, &mut std::io::sink());
                rest.map_err(|error| Error::LayerUnavailable {
                    diff_id: *diff_id,
                    reason: error.to_string(),
                })?;
            }
        }
        if self.written.insert(whole.config_digest) {
            self.file(&blob_name(&whole.config_digest), &whole.config_bytes)?;
        }
        let bytes = if same {
            whole.manifest_bytes.clone()
        } else {
            let annotations = &whole.image.annotations;
            let mut manifest = json!({
                "schemaVersion": 2,
                "mediaType": manifest::OCI_MANIFEST,
                "config": {
                    "mediaType": manifest::OCI_CONFIG,
                    "digest": whole.config_digest,
                    "size": whole.config_bytes.len(),
                },
                "layers": layers,
            });
            if !annotations.is_empty() {
                manifest["annotations"] = json!(annotations);
            }
            manifest.to_string().into_bytes()
        };
        let digest = Digest::of(&bytes);
        if self.written.insert(digest) {
            self.file(&blob_name(&digest), &bytes)?;
        }
        Ok((digest, bytes))
    }
}
