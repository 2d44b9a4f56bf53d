//! Manifests and indexes, OCI and Docker schema 2 alike, and the choice of a platform.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// What is asked for where a tag or digest is resolved.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// Larger manifests and indexes are refused (OCI distribution-spec: 4 MiB).
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// Larger configurations are refused.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// The most layers that overlayfs can stack.
const MAX_LAYERS: usize = 500;
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A plain layer; how it is compressed follows.
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// A pointer to content (OCI image-spec, descriptor.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    pub(crate) artifact_type: Option<String>,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The digest as it stands there.
    pub(crate) fn text(&self) -> &str {
        &self.digest
    }

    /// The digest, in the one algorithm that is supported; `owner` is what holds the descriptor.
    pub(crate) fn digest(&self, owner: &Digest) -> Result<Digest> {
        self.digest.parse().map_err(|error| Error::BadManifest {
            what: "manifest",
            digest: *owner,
            reason: format!("{:?}: {error}", self.digest),
        })
    }

    /// Where a layer may lie that its registry need not have (OCI image-spec, non-distributable layers).
    pub(crate) fn foreign_urls(&self) -> &[String] {
        let foreign = self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.");
        if foreign { &self.urls } else { &[] }
    }

    /// Whether it is content that its registry need not have.
    pub(crate) fn is_foreign(&self) -> bool {
        !self.foreign_urls().is_empty()
    }

    fn is_index(&self) -> bool {
        self.media_type == OCI_INDEX || self.media_type == DOCKER_LIST
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// What a digest or tag points to.
#[derive(Debug)]
pub(crate) enum Manifest {
    /// An image.
    Image(Box<ImageManifest>),
    /// One image for each of several platforms.
    Index(Vec<Descriptor>),
}

/// The manifest of one image.
#[derive(Debug)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Parses a manifest or index whose digest is verified. `content_type` is what the registry said it is.
pub(crate) fn parse(bytes: &[u8], digest: &Digest, content_type: &str) -> Result<Manifest> {
    let bad = |reason: &str| Error::BadManifest {
        what: "manifest",
        digest: *digest,
        reason: reason.to_owned(),
    };
    let document: Document = serde_json::from_slice(bytes).map_err(|error| bad(&error.to_string()))?;
    let stated = document.media_type.as_deref().unwrap_or(content_type);
    if stated.starts_with(SCHEMA1) || document.schema_version == 1 {
        return Err(Error::UnsupportedMediaType {
            media_type: stated.to_owned(),
            digest: *digest,
        });
    }
    // A text that is both would be read one way here and another way elsewhere (CVE-2021-41190).
    match (document.manifests, document.config, document.layers) {
        (Some(manifests), None, None) => Ok(Manifest::Index(manifests)),
        (None, Some(config), Some(layers)) => {
            if config.media_type != OCI_CONFIG && config.media_type != DOCKER_CONFIG {
                return Err(Error::UnsupportedMediaType {
                    media_type: config.media_type,
                    digest: *digest,
                });
            }
            if layers.len() > MAX_LAYERS {
                return Err(bad("it has more than 500 layers"));
            }
            let annotations = document.annotations.unwrap_or_default();
            Ok(Manifest::Image(Box::new(ImageManifest {
                config,
                layers,
                annotations,
            })))
        }
        (Some(_), ..) => Err(bad("it is an index and a manifest at once")),
        (None, ..) => Err(bad("it is neither an index nor a manifest")),
    }
}

/// This machine's platform as indexes name it.
pub(crate) fn platform() -> (&'static str, &'static str) {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ("linux", architecture)
}

/// Picks what fits this machine best: by platform, else the only entry that states none.
pub(crate) fn choose(manifests: Vec<Descriptor>) -> Option<Descriptor> {
    let images = manifests
        .into_iter()
        .filter(|manifest| manifest.artifact_type.is_none());
    let mut best: Option<(u32, Descriptor)> = None;
    let mut unstated = Vec::new();
    for manifest in images {
        match &manifest.platform {
            None => unstated.push(manifest),
            Some(platform) => {
                let Some(level) = level(platform) else { continue };
                if best.as_ref().is_none_or(|(other, _)| level > *other) {
                    best = Some((level, manifest));
                }
            }
        }
    }
    match best {
        Some((_, manifest)) => Some(manifest),
        None if unstated.len() == 1 || unstated.first().is_some_and(Descriptor::is_index) => {
            unstated.into_iter().next()
        }
        None => None,
    }
}

/// How well a platform fits: `None` if it can't run here, higher is better.
fn level(candidate: &Platform) -> Option<u32> {
    let (os, architecture) = platform();
    if candidate.os != os || candidate.architecture != architecture {
        return None;
    }
    match (architecture, candidate.variant.as_deref().unwrap_or_default()) {
        (_, "") => Some(1),
        ("amd64", variant) => amd64_level(variant),
        ("arm64", "v8") => Some(2),
        _ => None,
    }
}

/// The microarchitecture levels of the x86-64 psABI.
#[cfg(target_arch = "x86_64")]
fn amd64_level(variant: &str) -> Option<u32> {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("sse4.2") && has!("popcnt") && has!("ssse3") && has!("cmpxchg16b");
    let v3 = v2 && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("fma") && has!("movbe");
    match variant {
        "v1" => Some(1),
        "v2" if v2 => Some(2),
        "v3" if v3 => Some(3),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level(_variant: &str) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::of(b"manifest")
    }

    fn entry(name: &str, platform: &str) -> Descriptor {
        let mut value = serde_json::json!({"digest": name, "size": 1});
        if !platform.is_empty() {
            let mut parts = platform.split('/');
            value["platform"] = serde_json::json!({
                "os": parts.next(), "architecture": parts.next(), "variant": parts.next(),
            });
        }
        serde_json::from_value(value).unwrap()
    }

    fn chosen(entries: &[(&str, &str)]) -> Option<String> {
        let entries = entries
            .iter()
            .map(|(name, platform)| entry(name, platform))
            .collect();
        choose(entries).map(|entry| entry.digest)
    }

    #[test]
    fn chooses_this_machine() {
        let (os, architecture) = platform();
        let here = format!("{os}/{architecture}");
        let entries = [
            ("attestation", "unknown/unknown"),
            ("windows", "windows/amd64"),
            ("yes", here.as_str()),
        ];
        assert_eq!(chosen(&entries).as_deref(), Some("yes"));
        assert_eq!(
            chosen(&[("other", "linux/s390x"), ("unknown", "unknown/unknown")]),
            None
        );
        assert_eq!(chosen(&[("only", "")]).as_deref(), Some("only"));
        assert_eq!(chosen(&[("one", ""), ("two", "")]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn artifacts_are_no_images() {
        let mut signature = entry("signature", "");
        signature.artifact_type = Some("application/x".to_owned());
        assert!(choose(vec![signature]).is_none());
    }

    #[test]
    fn refuses_what_is_no_image() {
        let refused = |text: &str| parse(text.as_bytes(), &digest(), "").unwrap_err().to_string();
        assert!(refused("{").contains("manifest sha256:"));
        assert!(refused(r#"{"schemaVersion":2}"#).contains("neither"));
        assert!(refused(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#).contains("at once"));
        assert!(refused(r#"{"schemaVersion":1,"fsLayers":[]}"#).contains("unsupported media type"));
        let artifact = r#"{"config":{"mediaType":"application/x","digest":"d","size":1},"layers":[]}"#;
        assert!(refused(artifact).contains("\"application/x\""));
    }
}
