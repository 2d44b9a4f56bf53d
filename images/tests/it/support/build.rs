//! Builds images: layers, configurations, manifests, indexes.

use std::io::Write as _;

use pintle_images::Digest;
use serde_json::{Value, json};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
    None,
}

/// Content with its digest.
#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Blob {
        let bytes = bytes.into();
        Blob {
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    fn json(value: &Value) -> Blob {
        Blob::new(serde_json::to_vec(value).unwrap())
    }
}

#[derive(Debug, Clone)]
pub struct Layer {
    pub diff_id: Digest,
    pub blob: Blob,
    pub media_type: &'static str,
}

/// A tar archive of text files; a name that ends with `/` is a folder.
pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        // Written straight into the header: hostile names are wanted.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let folder = name.ends_with('/');
        header.set_entry_type(if folder {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mode(if folder { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn compress(plain: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(plain, 1).unwrap(),
        Compression::None => plain.to_vec(),
    }
}

impl Layer {
    pub fn of(plain: &[u8], compression: Compression) -> Layer {
        let media_type = match compression {
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
        };
        Layer {
            diff_id: Digest::of(plain),
            blob: Blob::new(compress(plain, compression)),
            media_type,
        }
    }

    pub fn files(files: &[(&str, &str)]) -> Layer {
        Layer::of(&tar(files), Compression::Gzip)
    }
}

/// An image, all of its parts open to lies before it is served.
#[derive(Debug, Clone)]
pub struct TestImage {
    pub layers: Vec<Layer>,
    pub config: Blob,
    pub manifest: Blob,
    pub media_type: &'static str,
}

impl TestImage {
    pub fn new(layers: Vec<Layer>) -> TestImage {
        TestImage::edited(layers, |_, _| ())
    }

    /// An image whose configuration and manifest are changed before they are hashed.
    pub fn edited(layers: Vec<Layer>, edit: impl FnOnce(&mut Value, &mut Value)) -> TestImage {
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let mut config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "User": "1000:1000"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| descriptor(layer.media_type, &layer.blob))
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": descriptors,
            "annotations": {"org.example": "yes"},
        });
        edit(&mut config, &mut manifest);
        let config = Blob::json(&config);
        if manifest.get("config").is_none() {
            manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &config);
        }
        TestImage {
            layers,
            config,
            manifest: Blob::json(&manifest),
            media_type: OCI_MANIFEST,
        }
    }

    /// The same image in Docker's media types.
    pub fn docker(layers: Vec<Layer>) -> TestImage {
        let mut image = TestImage::edited(layers, |_, manifest| {
            manifest["mediaType"] = json!(DOCKER_MANIFEST);
            for layer in manifest["layers"].as_array_mut().unwrap() {
                layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
            }
        });
        let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
        image.manifest = Blob::json(&manifest);
        image.media_type = DOCKER_MANIFEST;
        image
    }

    pub fn id(&self) -> String {
        self.config.digest.to_string()
    }

    pub fn compressed_size(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| layer.blob.bytes.len() as u64)
            .sum::<u64>()
            + self.config.bytes.len() as u64
    }
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({"mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.bytes.len()})
}

/// An index of images for platforms such as `linux/amd64`.
pub fn index(media_type: &str, images: &[(&str, &TestImage)]) -> Blob {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(platform, image)| {
            let mut entry = descriptor(image.media_type, &image.manifest);
            let (os, architecture) = platform.split_once('/').unwrap();
            entry["platform"] = json!({"os": os, "architecture": architecture});
            entry
        })
        .collect();
    Blob::json(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))
}
