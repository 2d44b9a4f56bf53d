//! Images made for the tests: layers, a configuration, a manifest and, if wanted, an index, all in memory.

mod base;
mod layer;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;

use anyhow::Result;

pub use base::{applets, busybox, busybox_layer};
pub use layer::Layer;

/// How a layer is packed for the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A plain tar.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard; only OCI has a media type for it.
    Zstd,
}

/// Which media types an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image specification 1.x.
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

/// A content-addressed blob or manifest.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// Media type.
    pub media_type: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &str, bytes: Vec<u8>) -> Blob {
        Blob {
            digest: digest(&bytes),
            media_type: media_type.to_owned(),
            bytes,
        }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A whole image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The configuration, then the layers from the bottom up, then another platform's configuration, if any.
    pub blobs: Vec<Blob>,
    /// The manifest; behind it another platform's and the index, if the image has one.
    pub manifests: Vec<Blob>,
    /// Diff ids of the layers from the bottom up: the digests of the unpacked tars.
    pub diff_ids: Vec<String>,
}

impl Image {
    /// The manifest or index that a tag points to.
    pub fn top(&self) -> &Blob {
        &self.manifests[self.manifests.len() - 1]
    }

    /// The same layers under another configuration, true or not. The index, if there was one, is gone.
    pub fn with_config(mut self, config: &Value) -> Result<Image> {
        self.blobs[0] = Blob::new(&self.blobs[0].media_type, config.to_string().into_bytes());
        let mut manifest: Value = serde_json::from_slice(&self.manifests[0].bytes)?;
        manifest["config"] = self.blobs[0].descriptor();
        let media_type = self.manifests[0].media_type.clone();
        self.manifests = vec![Blob::new(&media_type, manifest.to_string().into_bytes())];
        Ok(self)
    }

    /// The digest of the configuration, which is the image's id.
    pub fn id(&self) -> &str {
        &self.blobs[0].digest
    }
}

/// Collects what an image shall hold.
pub struct Builder {
    format: Format,
    index: bool,
    layers: Vec<(Vec<u8>, Packing)>,
    config: Value,
    annotations: Value,
}

impl Builder {
    /// An image without layers, with `PATH` set.
    pub fn new(format: Format) -> Builder {
        let config = json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
        Builder {
            format,
            index: false,
            layers: Vec::new(),
            config,
            annotations: json!({}),
        }
    }

    /// Sets an annotation of the manifest.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Builder {
        self.annotations[key] = value.into();
        self
    }

    /// Puts an index above the manifest, which lists another platform's manifest before ours.
    #[must_use]
    pub fn indexed(mut self) -> Builder {
        self.index = true;
        self
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, tar: Vec<u8>, packing: Packing) -> Builder {
        self.layers.push((tar, packing));
        self
    }

    /// Sets a key of the image's `config`, such as `Cmd`, `User`, `StopSignal`, `Volumes`.
    #[must_use]
    pub fn config(mut self, key: &str, value: Value) -> Builder {
        self.config[key] = value;
        self
    }

    /// Packs the layers and writes configuration, manifest and index.
    pub fn build(self) -> Result<Image> {
        let types = MediaTypes::of(self.format);
        let diff_ids: Vec<String> = self.layers.iter().map(|(tar, _)| digest(tar)).collect();
        let mut blobs = vec![self.config_blob(&types, "amd64", &diff_ids)];
        for (tar, packing) in &self.layers {
            blobs.push(Blob::new(types.layer(*packing), pack(tar, *packing)?));
        }
        let mut manifests = vec![manifest(&types, &blobs[0], &blobs[1..], &self.annotations)];
        if self.index {
            let other = self.config_blob(&types, "s390x", &diff_ids);
            manifests.push(manifest(&types, &other, &blobs[1..], &self.annotations));
            manifests.push(index(
                &types,
                &[(&manifests[1], "s390x"), (&manifests[0], "amd64")],
            ));
            blobs.push(other);
        }
        Ok(Image {
            blobs,
            manifests,
            diff_ids,
        })
    }

    fn config_blob(&self, types: &MediaTypes, architecture: &str, diff_ids: &[String]) -> Blob {
        let history: Vec<Value> = diff_ids
            .iter()
            .map(|_| json!({"created_by": "pintle-tests"}))
            .collect();
        let config = json!({
            "created": "2026-01-01T00:00:00Z", "architecture": architecture, "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        });
        Blob::new(types.config, config.to_string().into_bytes())
    }
}

fn manifest(types: &MediaTypes, config: &Blob, layers: &[Blob], annotations: &Value) -> Blob {
    let layers: Vec<Value> = layers.iter().map(Blob::descriptor).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": types.manifest, "config": config.descriptor(), "layers": layers,
        "annotations": annotations,
    });
    Blob::new(types.manifest, manifest.to_string().into_bytes())
}

fn index(types: &MediaTypes, manifests: &[(&Blob, &str)]) -> Blob {
    let entry = |(manifest, architecture): &(&Blob, &str)| {
        let mut descriptor = manifest.descriptor();
        descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
        descriptor
    };
    let entries: Vec<Value> = manifests.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": types.index, "manifests": entries});
    Blob::new(types.index, index.to_string().into_bytes())
}

struct MediaTypes {
    config: &'static str,
    manifest: &'static str,
    index: &'static str,
    layer: &'static str,
    gzip: &'static str,
}

impl MediaTypes {
    fn of(format: Format) -> MediaTypes {
        match format {
            Format::Oci => MediaTypes {
                config: "application/vnd.oci.image.config.v1+json",
                manifest: "application/vnd.oci.image.manifest.v1+json",
                index: "application/vnd.oci.image.index.v1+json",
                layer: "application/vnd.oci.image.layer.v1.tar",
                gzip: "application/vnd.oci.image.layer.v1.tar+gzip",
            },
            Format::Docker => MediaTypes {
                config: "application/vnd.docker.container.image.v1+json",
                manifest: "application/vnd.docker.distribution.manifest.v2+json",
                index: "application/vnd.docker.distribution.manifest.list.v2+json",
                layer: "application/vnd.docker.image.rootfs.diff.tar",
                gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
            },
        }
    }

    fn layer(&self, packing: Packing) -> &'static str {
        match packing {
            Packing::Plain => self.layer,
            Packing::Gzip => self.gzip,
            Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

fn pack(tar: &[u8], packing: Packing) -> Result<Vec<u8>> {
    Ok(match packing {
        Packing::Plain => tar.to_vec(),
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
            encoder.write_all(tar)?;
            encoder.finish()?
        }
        Packing::Zstd => zstd::encode_all(tar, 1)?,
    })
}

/// `sha256:` and the digest in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_parts_by_their_digests() {
        let image = Builder::new(Format::Oci)
            .indexed()
            .layer(b"tar".to_vec(), Packing::Gzip)
            .build()
            .expect("image");
        assert_eq!(image.blobs.len(), 3);
        assert_eq!(image.diff_ids, [digest(b"tar")]);
        let manifest: Value = serde_json::from_slice(&image.manifests[0].bytes).expect("JSON");
        assert_eq!(manifest["config"]["digest"], image.id());
        let index: Value = serde_json::from_slice(&image.top().bytes).expect("JSON");
        assert_eq!(index["manifests"][1]["digest"], image.manifests[0].digest);
    }
}
