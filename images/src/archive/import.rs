//! Takes images from an archive into the store: the same way as from a registry, with a file for a network.

use std::fs::File;
use std::io;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::read::{Archive, bad};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::manifest::{self, Descriptor, MAX_CONFIG, MAX_MANIFEST, Manifest};
use crate::progress::Progress;
use crate::pull::{Described, LayerSource, Origin, bring_all};
use crate::reference::Reference;
use crate::store::Store;

/// How deep indexes may be nested.
const MAX_INDEXES: usize = 3;
/// The most images of one archive.
const MAX_IMAGES: usize = 1000;
const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What to take in.
#[derive(Debug)]
pub struct ImportRequest {
    /// The archive: a tar of an OCI image layout or as `docker save` writes it, perhaps compressed. A file that can
    /// be read at any place, not a pipe; [`Store::spool`] makes one.
    pub file: File,
    /// Names for the image, if the archive holds one only; besides those that the archive gives it.
    pub names: Vec<String>,
}

/// An image in the archive.
struct Candidate {
    described: Described,
    sources: Vec<LayerSource>,
    names: Vec<String>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

impl Store {
    /// A file without a name on the store's disk, for an archive that comes through a pipe.
    ///
    /// # Errors
    /// It can't be made.
    pub fn spool(&self) -> Result<File> {
        self.inner.temp.spool()
    }

    /// Takes every image of an archive that this machine can run.
    ///
    /// # Errors
    /// What is wrong with the archive or the disk; images that came before the broken one stay.
    pub async fn import(
        &self,
        request: ImportRequest,
        progress: Option<Arc<Progress>>,
    ) -> Result<Vec<Arc<Image>>> {
        let names = request
            .names
            .iter()
            .map(|name| full_name(name))
            .collect::<Result<Vec<_>>>()?;
        let store = self.clone();
        let file = request.file;
        let work = tokio::task::spawn_blocking(move || {
            let archive = Archive::open(file, || store.spool())?;
            candidates(&archive, progress.as_deref())
        });
        let mut found = work.await.map_err(|_| Error::Worker {
            what: "reading an archive",
        })??;
        match found.as_mut_slice() {
            [only] => only.names.extend(names),
            _ if names.is_empty() => {}
            _ => return Err(bad("it holds several images, which one name can't stand for")),
        }
        let mut images = Vec::new();
        for mut candidate in found {
            candidate.names.sort();
            candidate.names.dedup();
            let leases = bring_all(&self.inner, candidate.sources).await?;
            let image = candidate
                .described
                .commit(&self.inner, candidate.names, leases)
                .await?;
            images.push(image);
        }
        Ok(images)
    }
}

/// A name as it stands in the records. A name with a digest says what only a registry can vouch for.
fn full_name(name: &str) -> Result<String> {
    let reference = Reference::parse(name)?;
    reference.tag_name().ok_or_else(|| Error::NotATag {
        name: name.to_owned(),
    })
}

fn candidates(archive: &Archive, progress: Option<&Progress>) -> Result<Vec<Candidate>> {
    let index: Option<Index> = archive.json("index.json", MAX_MANIFEST)?;
    let saved: Option<Vec<Saved>> = archive.json("manifest.json", MAX_MANIFEST)?;
    let mut found = Vec::new();
    match (index, saved) {
        (Some(index), _) if !index.manifests.is_empty() => {
            for descriptor in index.manifests.into_iter().take(MAX_IMAGES) {
                let before = found.iter().position(|other: &Candidate| {
                    other
                        .described
                        .content
                        .first()
                        .map(|(digest, _)| digest.to_string())
                        .as_deref()
                        == Some(descriptor.text())
                });
                let names = names_of(&descriptor);
                match before {
                    // One image with several names has an entry for each.
                    Some(before) => found[before].names.extend(names),
                    None => found.extend(from_layout(archive, descriptor, names, progress)?),
                }
            }
        }
        (_, Some(saved)) => {
            for saved in saved.iter().take(MAX_IMAGES) {
                found.push(from_saved(archive, saved, progress)?);
            }
        }
        _ => return Err(bad("it holds neither index.json nor manifest.json")),
    }
    if found.is_empty() {
        return Err(bad("it holds no image that this machine can run"));
    }
    Ok(found)
}

fn names_of(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |key: &str| descriptor.annotations.get(key);
    let name = annotation(NAME).or_else(|| annotation(REF_NAME).filter(|name| name.contains(['/', ':'])));
    name.and_then(|name| full_name(name).ok()).into_iter().collect()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A blob that fits in memory, verified.
fn blob(archive: &Archive, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
    let name = blob_name(digest);
    let bytes = archive
        .small(&name, limit)?
        .ok_or_else(|| bad(format!("{name:?} is missing")))?;
    if Digest::of(&bytes) == *digest {
        Ok(bytes)
    } else {
        Err(Error::DigestMismatch { digest: *digest })
    }
}

/// `None` for what is no image for this machine.
fn from_layout(
    archive: &Archive,
    descriptor: Descriptor,
    names: Vec<String>,
    progress: Option<&Progress>,
) -> Result<Option<Candidate>> {
    let mut content = Vec::new();
    let mut next = descriptor;
    for _ in 0..=MAX_INDEXES {
        let digest = next.digest(&Digest::of(b""))?;
        let bytes = blob(archive, &digest, MAX_MANIFEST)?;
        content.push((digest, bytes.clone()));
        match manifest::parse(&bytes, &digest, &next.media_type) {
            Ok(Manifest::Index(manifests)) => match manifest::choose(manifests) {
                Some(chosen) => next = chosen,
                None => return Ok(None),
            },
            Ok(Manifest::Image(manifest)) => {
                let config = blob(archive, &manifest.config.digest(&digest)?, MAX_CONFIG)?;
                let described = Described::new(*manifest, digest, config, content, &digest.to_string());
                let described = match described {
                    Err(Error::NoPlatform { .. }) => return Ok(None),
                    other => other?,
                };
                let sources = layout_sources(archive, &described, progress)?;
                return Ok(Some(Candidate {
                    described,
                    sources,
                    names,
                }));
            }
            // A signature or the like, beside the images.
            Err(Error::UnsupportedMediaType { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(bad("indexes are nested too deeply"))
}

fn layout_sources(
    archive: &Archive,
    described: &Described,
    progress: Option<&Progress>,
) -> Result<Vec<LayerSource>> {
    let layers = described.manifest.layers.iter().zip(&described.diff_ids);
    let source = |(descriptor, diff_id): (&Descriptor, &Digest)| {
        let digest = descriptor.digest(&described.manifest_digest)?;
        let name = blob_name(&digest);
        let (begin, size) = archive
            .find(&name)
            .ok_or_else(|| bad(format!("{name:?} is missing")))?;
        Ok(LayerSource {
            origin: Origin::File {
                file: Arc::clone(&archive.file),
                begin,
                size,
            },
            digest: Some(digest),
            diff_id: *diff_id,
            progress: progress.map(|progress| progress.add(digest, size)),
        })
    };
    layers.map(source).collect()
}

/// `docker save` keeps no manifest: one is made that says the same.
fn from_saved(archive: &Archive, saved: &Saved, progress: Option<&Progress>) -> Result<Candidate> {
    let missing = |name: &str| bad(format!("{name:?} is missing"));
    let config = archive
        .small(saved.config.trim_start_matches("./"), MAX_CONFIG)?
        .ok_or_else(|| missing(&saved.config))?;
    let mut layers = Vec::new();
    let mut places = Vec::new();
    for name in &saved.layers {
        let (begin, size) = archive
            .find(name.trim_start_matches("./"))
            .ok_or_else(|| missing(name))?;
        let mut start = [0; 4];
        let length = io::Read::read(&mut archive.reader(begin, size), &mut start).unwrap_or_default();
        let kind = match &start[..length] {
            [0x1f, 0x8b, ..] => "+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
            _ => "",
        };
        let mut hasher = HashWriter(Hasher::default());
        io::copy(&mut archive.reader(begin, size), &mut hasher).map_err(|error| bad(error.to_string()))?;
        let digest = hasher.0.finish();
        layers.push(json!({
            "mediaType": format!("{}{kind}", manifest::OCI_LAYER), "digest": digest, "size": size,
        }));
        places.push((digest, begin, size));
    }
    let text = json!({
        "schemaVersion": 2,
        "mediaType": manifest::OCI_MANIFEST,
        "config": {"mediaType": manifest::OCI_CONFIG, "digest": Digest::of(&config), "size": config.len()},
        "layers": layers,
    });
    let bytes = text.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let Manifest::Image(manifest) = manifest::parse(&bytes, &digest, "")? else {
        return Err(bad("manifest.json is malformed"));
    };
    let content = vec![(digest, bytes)];
    let described = Described::new(*manifest, digest, config, content, &saved.config)?;
    let sources = places
        .into_iter()
        .zip(&described.diff_ids)
        .map(|((digest, begin, size), diff_id)| LayerSource {
            origin: Origin::File {
                file: Arc::clone(&archive.file),
                begin,
                size,
            },
            digest: Some(digest),
            diff_id: *diff_id,
            progress: progress.map(|progress| progress.add(digest, size)),
        });
    let tags = saved.repo_tags.iter().flatten();
    Ok(Candidate {
        sources: sources.collect(),
        names: tags.filter_map(|tag| full_name(tag).ok()).collect(),
        described,
    })
}

struct HashWriter(Hasher);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
