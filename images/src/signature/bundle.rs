//! Sigstore bundles (cosign 3): manifests that refer to the image, whose layer is a bundle with a DSSE envelope over an
//! in-toto statement about the image's digest.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Found, MAX_SIGNATURES, Policy, or_nothing};
use crate::digest::Digest;
use crate::error::Result;
use crate::registry::Session;

/// What bundles of all versions begin with.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const MAX_BUNDLE: u64 = 2 << 20;

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Pointer>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Pointer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// Looks for a bundle about `digest` that is signed by one of the policy's keys.
pub(super) async fn look(policy: &Policy, session: &Session, digest: &Digest) -> Result<Found> {
    let Some(index) = session.referrers(digest).await? else {
        return Ok(Found::Nothing);
    };
    let Ok(index) = serde_json::from_slice::<Index>(&index) else {
        return Ok(Found::Wrong);
    };
    let mut found = Found::Nothing;
    // An old registry's list may leave the type out.
    let named = |kind: &str| kind.is_empty() || kind.starts_with(MEDIA_TYPE);
    let manifests = index
        .manifests
        .iter()
        .filter(|pointer| named(&pointer.artifact_type));
    for pointer in manifests.take(MAX_SIGNATURES) {
        let target = pointer.digest.to_string();
        let Some(fetched) = or_nothing(session.manifest(&target, Some(pointer.digest)).await)? else {
            continue;
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&fetched.bytes) else {
            continue;
        };
        let bundles = |layer: &&Pointer| layer.media_type.starts_with(MEDIA_TYPE) && layer.size <= MAX_BUNDLE;
        for layer in manifest.layers.iter().filter(bundles).take(1) {
            found = Found::Wrong;
            let bundle = or_nothing(session.small_blob(&layer.digest, layer.size, MAX_BUNDLE).await)?;
            if bundle.is_some_and(|bundle| counts(policy, &bundle, digest)) {
                return Ok(Found::Good);
            }
        }
    }
    Ok(found)
}

fn counts(policy: &Policy, bundle: &[u8], digest: &Digest) -> bool {
    let Ok(Bundle {
        dsse_envelope: envelope,
    }) = serde_json::from_slice::<Bundle>(bundle)
    else {
        return false;
    };
    let Ok(payload) = STANDARD.decode(&envelope.payload) else {
        return false;
    };
    let message = encoding(&envelope.payload_type, &payload);
    let signatures = envelope
        .signatures
        .iter()
        .filter_map(|signature| STANDARD.decode(&signature.sig).ok());
    let signed = signatures
        .take(MAX_SIGNATURES)
        .any(|signature| policy.keys.iter().any(|key| key.signed(&message, &signature)));
    signed && envelope.payload_type == PAYLOAD_TYPE && is_about(&payload, digest)
}

/// What a DSSE signature is over (DSSE protocol, "PAE").
fn encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Whether a statement says "this image is signed" of `digest`, and not something else, such as what it was built from.
fn is_about(payload: &[u8], digest: &Digest) -> bool {
    let Ok(statement) = serde_json::from_slice::<Statement>(payload) else {
        return false;
    };
    let hex = digest.hex();
    let names = |subject: &Subject| subject.digest.get("sha256").is_some_and(|named| *named == hex);
    statement.predicate_type == PREDICATE && statement.subject.iter().any(names)
}
