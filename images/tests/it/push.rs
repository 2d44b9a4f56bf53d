//! Pushes to Debian's docker-registry: the digests stay wherever they can.

use pintle_images::{Error, PushRequest};

use crate::support::TestStore;
use crate::support::build::{Compression, Layer, TestImage};
use crate::support::docker::DockerRegistry;
use crate::support::http::Response;
use crate::support::registry::Registry;

fn request(image: &str, target: &str) -> PushRequest {
    PushRequest {
        image: image.to_owned(),
        target: target.to_owned(),
        auth: None,
    }
}

fn image() -> TestImage {
    TestImage::new(vec![
        Layer::files(&[("a", &"gzip ".repeat(100_000))]),
        Layer::of(&crate::support::build::tar(&[("b", "zstd")]), Compression::Zstd),
        Layer::of(&crate::support::build::tar(&[("c", "plain")]), Compression::None),
    ])
}

#[tokio::test]
async fn within_a_registry_and_to_another_the_digest_stays() {
    let (first, second) = (DockerRegistry::start(), DockerRegistry::start());
    let image = image();
    let reference = first.push("team/app", "v1", &image, None).await;
    let test = TestStore::new();
    let pulled = test.pull(&reference).await.unwrap();
    for target in [
        format!("{}/copy/app:v2", first.address),
        format!("{}/app:v3", second.address),
    ] {
        let pushed = test.store.push(request(&pulled.id, &target), None).await.unwrap();
        assert_eq!(
            (pushed.digest, pushed.exact),
            (image.manifest.digest, true),
            "{target}"
        );
        let other = TestStore::new();
        let found = other.pull(&target).await.unwrap();
        assert_eq!(
            (&found.id, found.manifest_digest),
            (&image.id(), image.manifest.digest),
            "{target}"
        );
        // Once more, nothing is left to do.
        assert!(
            test.store
                .push(request(&pulled.id, &target), None)
                .await
                .unwrap()
                .exact
        );
    }
}

#[tokio::test]
async fn without_its_origin_it_is_made_anew() {
    // Enough that one level of compression finds what another does not.
    let text: String = (0..20_000_u32)
        .map(|i| format!("{} ", i.wrapping_mul(2_654_435_761) % 9973))
        .collect();
    let image = TestImage::new(vec![Layer::files(&[("a", &text)])]);
    let test = TestStore::new();
    let gone = Registry::start();
    test.pull(&gone.push("r", "t", &image)).await.unwrap();
    gone.lie(|_| Some(Response::new(404)));
    let registry = DockerRegistry::start();
    let target = format!("{}/app:v1", registry.address);
    let pushed = test
        .store
        .push(request(&image.id(), &target), None)
        .await
        .unwrap();
    assert!(!pushed.exact && pushed.digest != image.manifest.digest);
    let other = TestStore::new();
    let found = other.pull(&target).await.unwrap();
    assert_eq!((&found.id, found.manifest_digest), (&image.id(), pushed.digest));
}

#[tokio::test]
async fn what_can_not_be_pushed() {
    let registry = DockerRegistry::start();
    let image = image();
    let reference = registry.push("r", "t", &image, None).await;
    let test = TestStore::new();
    test.pull(&reference).await.unwrap();
    let target = format!("{}/other:t", registry.address);
    let missing = test.store.push(request("nothing:here", &target), None).await;
    assert!(matches!(missing, Err(Error::NoSuchImage { .. })), "{missing:?}");
    let digest = format!("{}/r@{}", registry.address, image.manifest.digest);
    let by_digest = test.store.push(request(&reference, &digest), None).await;
    assert!(matches!(by_digest, Err(Error::NotATag { .. })), "{by_digest:?}");
    // A registry that only reads.
    let reader = Registry::start();
    let refused = test
        .store
        .push(request(&reference, &reader.reference("r", "t")), None)
        .await;
    assert!(
        matches!(
            refused,
            Err(Error::NotFound { .. } | Error::RegistryStatus { .. })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_damaged_layer_is_not_pushed() {
    let image = TestImage::new(vec![Layer::of(
        &crate::support::build::tar(&[("c", "plain")]),
        Compression::None,
    )]);
    let test = TestStore::new();
    let gone = Registry::start();
    test.pull(&gone.push("r", "t", &image)).await.unwrap();
    gone.lie(|_| Some(Response::new(404)));
    let file = format!("layers/{}/c", image.layers[0].diff_id.hex());
    std::fs::write(test.path(&file), "other").unwrap();
    let registry = DockerRegistry::start();
    let pushed = test
        .store
        .push(
            request(&image.id(), &format!("{}/app:v1", registry.address)),
            None,
        )
        .await;
    assert!(
        matches!(pushed, Err(Error::LayerUnavailable { .. })),
        "{pushed:?}"
    );
}
