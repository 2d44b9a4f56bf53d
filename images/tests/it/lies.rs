//! A registry that lies, breaks off, stalls or is not there: a clear error each time, and nothing left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pintle_images::{Error, PullRequest};
use serde_json::json;

use crate::support::TestStore;
use crate::support::build::{self, Blob, Compression, Layer, TestImage};
use crate::support::http::{Body, Request, Response};
use crate::support::registry::{Registry, whole_or_range};

/// An image with one layer that the registry lies about, and one that is fine.
fn image() -> (TestImage, Blob) {
    let content = "some content ".repeat(20_000);
    let layer = Layer::of(&build::tar(&[("f", &content)]), Compression::None);
    let fine = Layer::files(&[("fine", "fine")]);
    (TestImage::new(vec![fine, layer.clone()]), layer.blob)
}

fn is_for(request: &Request, blob: &Blob) -> bool {
    request.method == "GET" && request.path.ends_with(&format!("/blobs/{}", blob.digest))
}

/// Pulls an image whose big layer is answered by `lie`; the pull must fail and leave nothing.
async fn lied(lie: impl Fn(&Request, &Blob) -> Response + Send + Sync + 'static) -> Error {
    let registry = Registry::start();
    let (image, blob) = image();
    let reference = registry.push("r", "t", &image);
    registry.lie(move |request| is_for(request, &blob).then(|| lie(request, &blob)));
    let test = TestStore::with(|config| config.progress_timeout = Duration::from_millis(800));
    let error = test.pull(&reference).await.unwrap_err();
    test.assert_empty();
    error
}

/// Pulls an image as it is; the pull must fail and leave nothing.
async fn refused(image: &TestImage) -> Error {
    let registry = Registry::start();
    let reference = registry.push("r", "t", image);
    let test = TestStore::with(|config| config.max_layer_bytes = 64 << 20);
    let error = test.pull(&reference).await.unwrap_err();
    test.assert_empty();
    error
}

#[tokio::test]
async fn a_layer_with_other_content() {
    let same_length = lied(|_, blob| {
        let mut bytes = blob.bytes.clone();
        bytes[600] ^= 1;
        Response::ok(bytes)
    });
    assert!(matches!(same_length.await, Error::DigestMismatch { .. }));
    let garbage = lied(|_, blob| Response::ok(vec![b'x'; blob.bytes.len()]));
    assert!(matches!(garbage.await, Error::DigestMismatch { .. }));
    let (image, layer) = image();
    let error = lied(|_, blob| Response::ok(vec![0x1f; blob.bytes.len()])).await;
    let expected = format!(
        "digest mismatch: the content that came for {} has another digest",
        layer.digest
    );
    assert_eq!((error.to_string(), image.layers.len()), (expected, 2));
}

#[tokio::test]
async fn a_layer_of_another_length() {
    let longer = lied(|_, blob| Response::ok([&blob.bytes[..], b"more"].concat())).await;
    assert!(matches!(longer, Error::SizeMismatch { .. }), "{longer}");
    let endless = lied(|_, blob| Response::new(200).body(Body::Endless(blob.bytes.clone()))).await;
    assert!(matches!(endless, Error::SizeMismatch { .. }), "{endless}");
    let shorter = lied(|request, blob| {
        let mut response = whole_or_range(request, &blob.bytes[..blob.bytes.len() - 512]);
        if response.status == 206 {
            response.body = Body::Whole(Vec::new());
        }
        response
    });
    let shorter = shorter.await;
    assert!(matches!(shorter, Error::SizeMismatch { .. }), "{shorter}");
}

#[tokio::test]
async fn a_broken_connection_is_resumed() {
    for with_ranges in [true, false] {
        let registry = Registry::start();
        let (image, blob) = image();
        let reference = registry.push("r", "t", &image);
        let lied_blob = blob.clone();
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        registry.lie(move |request| {
            if !is_for(request, &lied_blob) || count.fetch_add(1, Ordering::SeqCst) == 3 {
                return None;
            }
            let whole = if with_ranges {
                whole_or_range(request, &lied_blob.bytes)
            } else {
                Response::ok(lied_blob.bytes.clone())
            };
            let Body::Whole(bytes) = whole.body else {
                return None;
            };
            let sent = bytes[..bytes.len() / 2].to_vec();
            let body = Body::Cut {
                stated: bytes.len(),
                sent,
            };
            Some(Response {
                status: whole.status,
                headers: whole.headers,
                body,
            })
        });
        let test = TestStore::new();
        if with_ranges {
            test.pull(&reference).await.unwrap();
            assert_eq!(served.load(Ordering::SeqCst), 4);
        } else {
            let error = test.pull(&reference).await;
            assert!(error.is_ok() || matches!(error, Err(Error::RegistryUnavailable { .. })));
        }
    }
}

#[tokio::test]
async fn a_connection_that_always_breaks() {
    let error = lied(|_, blob| {
        Response::new(200).body(Body::Cut {
            stated: blob.bytes.len(),
            sent: blob.bytes[..1000].to_vec(),
        })
    });
    let error = error.await;
    assert!(
        error.to_string().starts_with("RegistryUnavailable: 127.0.0.1:"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stall() {
    let error = lied(|_, blob| {
        Response::new(200).body(Body::Stall {
            stated: blob.bytes.len(),
            sent: blob.bytes[..1000].to_vec(),
        })
    });
    assert!(matches!(error.await, Error::Stalled { .. }));
}

#[tokio::test]
async fn manifests_and_configurations_that_lie() {
    let registry = Registry::start();
    let (image, _) = image();
    let test = TestStore::new();
    let digest = image.manifest.digest.to_string();
    registry.push("r", "t", &image);
    registry.serve(&format!("r/manifests/{digest}"), image.media_type, b"{}");
    let error = test.pull(&registry.reference("r", &digest)).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");

    registry.push("r", "t", &image);
    let mut other = image.config.bytes.clone();
    other[5] ^= 1;
    registry.serve(&format!("r/blobs/{}", image.config.digest), "x", &other);
    let error = test.pull(&registry.reference("r", "t")).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");

    registry.serve(&format!("r/blobs/{}", image.config.digest), "x", &other[1..]);
    let error = test.pull(&registry.reference("r", "t")).await.unwrap_err();
    assert!(matches!(error, Error::SizeMismatch { .. }), "{error}");
    test.assert_empty();
}

#[tokio::test]
async fn images_that_contradict_themselves() {
    let layer = || Layer::files(&[("f", "f")]);
    let mut wrong = layer();
    wrong.diff_id = Blob::new("something else").digest;
    let error = refused(&TestImage::new(vec![wrong])).await;
    assert!(matches!(error, Error::DiffIdMismatch { .. }), "{error}");

    let fewer = TestImage::edited(vec![layer()], |config, _| {
        config["rootfs"]["diff_ids"] = json!([]);
    });
    let error = refused(&fewer).await;
    assert!(
        error.to_string().contains("rootfs.diff_ids does not fit"),
        "{error}"
    );

    let other = TestImage::edited(vec![layer()], |config, _| config["architecture"] = json!("s390x"));
    assert!(matches!(refused(&other).await, Error::NoPlatform { .. }));

    let odd = TestImage::edited(vec![layer()], |_, manifest| {
        manifest["layers"][0]["digest"] = json!("../../etc/passwd");
    });
    assert!(matches!(refused(&odd).await, Error::BadManifest { .. }));

    let huge = TestImage::edited(vec![layer()], |_, manifest| {
        manifest["config"] = json!({"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Blob::new("x").digest.to_string(), "size": 1_u64 << 40});
    });
    assert!(matches!(refused(&huge).await, Error::RegistryProtocol { .. }));
}

#[tokio::test]
async fn layers_that_are_hostile_or_broken() {
    for name in ["../../escape", "a/../../../escape"] {
        let error = refused(&TestImage::new(vec![Layer::files(&[(name, "evil")])])).await;
        assert!(
            error
                .to_string()
                .ends_with(&format!("entry {name:?}: its path leaves the layer")),
            "{error}"
        );
    }
    let xz = Layer::of(b"\xfd7zXZ\0 and so on", Compression::None);
    let error = refused(&TestImage::new(vec![xz])).await;
    assert!(
        error.to_string().ends_with("xz compression is not supported"),
        "{error}"
    );

    let plain = build::tar(&[("f", &"f".repeat(10_000))]);
    let mut cut = Layer::of(&plain, Compression::Gzip);
    cut.blob = Blob::new(&cut.blob.bytes[..cut.blob.bytes.len() - 9]);
    let error = refused(&TestImage::new(vec![cut])).await;
    assert!(error.to_string().contains("broken gzip stream"), "{error}");

    let bomb = Layer::of(&vec![0; 65 << 20], Compression::Zstd);
    let error = refused(&TestImage::new(vec![bomb])).await;
    assert!(
        error
            .to_string()
            .contains("it unpacks to more than 67108864 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn answers_that_are_no_success() {
    let registry = Registry::start();
    let (image, _) = image();
    let reference = registry.push("r", "t", &image);
    let test = TestStore::new();
    let missing = test.pull(&registry.reference("r", "missing")).await.unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");

    registry.lie(|_| Some(Response::new(403)));
    let denied = test.pull(&reference).await.unwrap_err();
    assert!(
        denied.to_string().ends_with("pull access denied: 403 Forbidden"),
        "{denied}"
    );

    registry.lie(|_| Some(Response::new(307).with("location", "/v2/again")));
    let looped = test.pull(&reference).await.unwrap_err();
    assert!(looped.to_string().ends_with("too many redirects"), "{looped}");

    let busy = AtomicUsize::new(0);
    registry.lie(move |_| {
        let first = busy.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        first.then(|| Response::new(429).with("retry-after", "0"))
    });
    test.pull(&reference).await.unwrap();
    test.store.remove(&reference).await.unwrap();

    registry.lie(|_| Some(Response::new(503).with("retry-after", "0")));
    let failing = test.pull(&reference).await.unwrap_err();
    assert!(
        failing
            .to_string()
            .ends_with("registry answered 503 Service Unavailable"),
        "{failing}"
    );
    test.assert_empty();
}

#[tokio::test]
async fn a_registry_that_is_down() {
    let address = Registry::start().address().to_owned();
    let test = TestStore::new();
    let error = test.pull(&format!("{address}/r:t")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("RegistryUnavailable: {address}: connection refused")
    );
    assert!(matches!(
        test.pull("busyBox").await.unwrap_err(),
        Error::InvalidReference { .. }
    ));
    test.assert_empty();
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let registry = Registry::start();
    let (image, blob) = image();
    let reference = registry.push("r", "t", &image);
    registry.lie(move |request| {
        let sent = blob.bytes[..100_000].to_vec();
        is_for(request, &blob).then(|| {
            Response::new(200).body(Body::Stall {
                stated: blob.bytes.len(),
                sent,
            })
        })
    });
    let test = TestStore::new();
    let request = PullRequest {
        reference: reference.clone(),
        auth: None,
    };
    let given_up = tokio::time::timeout(Duration::from_millis(500), test.store.pull(request)).await;
    assert!(given_up.is_err());
    test.becomes_empty().await;
    registry.lie(|_| None);
    test.pull(&reference).await.unwrap();
}
