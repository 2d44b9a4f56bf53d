//! Signatures: by the right key over the right image, or the pull leaves nothing.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pintle_images::{Digest, Error};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::support::TestStore;
use crate::support::build::{Blob, Layer, OCI_INDEX, OCI_MANIFEST, TestImage};
use crate::support::registry::Registry;

/// A SubjectPublicKeyInfo on P-256, without the point.
const PREFIX: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Key {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Key(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    fn pem(&self) -> String {
        let mut info = STANDARD.decode(PREFIX).unwrap();
        info.extend_from_slice(&self.0.public_key().as_ref()[1..]);
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(info)
        )
    }

    fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.0.sign(&SystemRandom::new(), message).unwrap())
    }
}

/// A store whose policy wants a key for everything.
fn store(key: &Key, mode: &str) -> (TestStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key.pub"), key.pem()).unwrap();
    let policy = folder.path().join("policy.toml");
    fs::write(
        &policy,
        format!("[[policy]]\nimages = \"*\"\nmode = {mode:?}\nkeys = [\"key.pub\"]\n"),
    )
    .unwrap();
    (
        TestStore::with(|config| config.signature_policy = Some(policy.clone())),
        folder,
    )
}

fn payload(digest: &Digest) -> Vec<u8> {
    let payload = json!({"critical": {
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": digest.to_string()},
        "type": "cosign container image signature",
    }, "optional": null});
    payload.to_string().into_bytes()
}

fn json_blob(value: &Value) -> Blob {
    Blob::new(value.to_string())
}

/// Serves a signature as cosign did of old: over `payload`, for the image `digest`.
fn serve_simple(registry: &Registry, repository: &str, digest: &Digest, payload: Vec<u8>, signature: &str) {
    let payload = Blob::new(payload);
    let config = Blob::new("{}");
    let manifest = json_blob(&json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest.to_string(), "size": 2},
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": payload.digest.to_string(), "size": payload.bytes.len(),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        }],
    }));
    registry.serve_blob(repository, &payload);
    registry.serve_manifest(
        repository,
        &format!("sha256-{}.sig", digest.hex()),
        OCI_MANIFEST,
        &manifest,
    );
}

/// Serves a bundle about `subject` among the referrers of `digest`; `place` is the list's path below the repository.
fn serve_bundle(
    registry: &Registry,
    repository: &str,
    digest: &Digest,
    subject: &Digest,
    key: &Key,
    place: &str,
) {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": subject.hex()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    });
    let statement = statement.to_string();
    let kind = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let bundle = json_blob(&json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement), "payloadType": kind,
            "signatures": [{"sig": key.sign(message.as_bytes())}],
        },
    }));
    let empty = Blob::new("{}");
    let manifest = json_blob(&json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.digest.to_string(), "size": 2},
        "layers": [{
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "digest": bundle.digest.to_string(), "size": bundle.bytes.len(),
        }],
        "subject": {"mediaType": OCI_MANIFEST, "digest": digest.to_string(), "size": 1},
    }));
    registry.serve_blob(repository, &bundle);
    registry.serve_manifest(repository, "unused", OCI_MANIFEST, &manifest);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
        "mediaType": OCI_MANIFEST, "digest": manifest.digest.to_string(), "size": manifest.bytes.len(),
        "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    }]});
    registry.serve(
        &format!("{repository}/{place}"),
        OCI_INDEX,
        index.to_string().as_bytes(),
    );
}

fn image() -> TestImage {
    TestImage::new(vec![Layer::files(&[("f", "f")])])
}

async fn refused(test: &TestStore, reference: &str) {
    let error = test.pull(reference).await.unwrap_err();
    assert!(matches!(error, Error::SignatureRefused { .. }), "{error}");
    assert!(
        error.to_string().starts_with("SignatureValidationFailed: "),
        "{error}"
    );
    test.assert_empty();
}

#[tokio::test]
async fn a_signature_of_old() {
    let (registry, key) = (Registry::start(), Key::new());
    let (test, _folder) = store(&key, "reject");
    let image = image();
    let reference = registry.push("r", "t", &image);
    refused(&test, &reference).await;
    assert_eq!(
        registry.fetches(&image.config),
        0,
        "nothing is fetched of what is refused"
    );
    let digest = image.manifest.digest;
    let good = payload(&digest);
    // By another key; over another image; over something else.
    serve_simple(&registry, "r", &digest, good.clone(), &Key::new().sign(&good));
    refused(&test, &reference).await;
    let other = payload(&Digest::of(b"other"));
    serve_simple(&registry, "r", &digest, other.clone(), &key.sign(&other));
    refused(&test, &reference).await;
    serve_simple(&registry, "r", &digest, good.clone(), &key.sign(&other));
    refused(&test, &reference).await;
    serve_simple(&registry, "r", &digest, good.clone(), &key.sign(&good));
    assert_eq!(test.pull(&reference).await.unwrap().id, image.id());
    let by_digest = registry.reference("r", &digest.to_string());
    assert_eq!(test.pull(&by_digest).await.unwrap().id, image.id());
}

#[tokio::test]
async fn a_bundle_among_the_referrers() {
    let (registry, key) = (Registry::start(), Key::new());
    let (test, _folder) = store(&key, "reject");
    let image = image();
    let reference = registry.push("r", "t", &image);
    let digest = image.manifest.digest;
    let place = format!("referrers/{digest}");
    serve_bundle(&registry, "r", &digest, &digest, &Key::new(), &place);
    refused(&test, &reference).await;
    serve_bundle(&registry, "r", &digest, &Digest::of(b"other"), &key, &place);
    refused(&test, &reference).await;
    serve_bundle(&registry, "r", &digest, &digest, &key, &place);
    assert_eq!(test.pull(&reference).await.unwrap().id, image.id());
}

#[tokio::test]
async fn a_bundle_at_a_registry_without_referrers() {
    let (registry, key) = (Registry::start(), Key::new());
    let (test, _folder) = store(&key, "reject");
    let image = image();
    let reference = registry.push("r", "t", &image);
    let digest = image.manifest.digest;
    serve_bundle(
        &registry,
        "r",
        &digest,
        &digest,
        &key,
        &format!("manifests/sha256-{}", digest.hex()),
    );
    assert_eq!(test.pull(&reference).await.unwrap().id, image.id());
}

#[tokio::test]
async fn an_image_that_is_here_must_be_signed_as_well() {
    let (registry, key) = (Registry::start(), Key::new());
    let (test, folder) = store(&key, "off");
    let image = image();
    let reference = registry.push("r", "t", &image);
    test.pull(&reference).await.unwrap();
    fs::write(
        folder.path().join("policy.toml"),
        "[[policy]]\nimages = \"*\"\nmode = \"reject\"\nkeys = [\"key.pub\"]\n",
    )
    .unwrap();
    let error = test.pull(&reference).await.unwrap_err();
    assert!(matches!(error, Error::SignatureRefused { .. }), "{error}");
}

#[tokio::test]
async fn a_warning_lets_it_pass_and_a_broken_policy_nothing() {
    let (registry, key) = (Registry::start(), Key::new());
    let (test, folder) = store(&key, "warn");
    let reference = registry.push("r", "t", &image());
    test.pull(&reference).await.unwrap();
    fs::write(folder.path().join("policy.toml"), "nonsense").unwrap();
    assert!(matches!(test.pull(&reference).await, Err(Error::Config { .. })));
    fs::remove_file(folder.path().join("policy.toml")).unwrap();
    assert!(test.pull(&reference).await.is_err());
}
