//! Cosign's signatures of old: an image manifest at the tag `sha256-<hex>.sig`, each of whose layers is a payload
//! ("simple signing") with its signature in an annotation.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Found, MAX_SIGNATURES, Policy, or_nothing};
use crate::digest::Digest;
use crate::error::Result;
use crate::registry::Session;

const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const KIND: &str = "cosign container image signature";
const MAX_PAYLOAD: u64 = 256 << 10;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Looks for a signature of `digest` by one of the policy's keys.
pub(super) async fn look(policy: &Policy, session: &Session, digest: &Digest) -> Result<Found> {
    let tag = format!("sha256-{}.sig", digest.hex());
    let Some(fetched) = or_nothing(session.manifest(&tag, None).await)? else {
        return Ok(Found::Nothing);
    };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&fetched.bytes) else {
        return Ok(Found::Wrong);
    };
    let layers = manifest
        .layers
        .iter()
        .filter(|layer| layer.media_type == MEDIA_TYPE);
    for layer in layers.take(MAX_SIGNATURES) {
        let signature = layer
            .annotations
            .get(ANNOTATION)
            .and_then(|text| STANDARD.decode(text).ok());
        let Some(signature) = signature.filter(|_| layer.size <= MAX_PAYLOAD) else {
            continue;
        };
        let payload = or_nothing(session.small_blob(&layer.digest, layer.size, MAX_PAYLOAD).await)?;
        if payload.is_some_and(|payload| counts(policy, &payload, &signature, digest)) {
            return Ok(Found::Good);
        }
    }
    Ok(Found::Wrong)
}

/// The signature first: what is not signed is not even parsed.
fn counts(policy: &Policy, payload: &[u8], signature: &[u8], digest: &Digest) -> bool {
    let signed = policy.keys.iter().any(|key| key.signed(payload, signature));
    signed
        && serde_json::from_slice::<Payload>(payload).is_ok_and(|payload| {
            payload.critical.kind == KIND && payload.critical.image.digest == digest.to_string()
        })
}
