//! Pulls from a registry of our own: what comes, what is kept, what is not fetched again.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use crate::support::TestStore;
use crate::support::build::{self, Compression, Layer, TestImage};
use crate::support::registry::Registry;
use pintle_images::Digest;

fn two_layers() -> TestImage {
    let base = Layer::files(&[
        ("etc/", ""),
        ("etc/passwd", "root"),
        ("etc/old", "old"),
        ("bin/sh", "#!"),
    ]);
    let upper = Layer::files(&[("etc/.wh.old", ""), ("new/file", "new"), ("bin/.wh..wh..opq", "")]);
    TestImage::new(vec![base, upper])
}

#[tokio::test]
async fn an_image_comes_whole() {
    let registry = Registry::start();
    let image = two_layers();
    let reference = registry.push("a/b", "v1", &image);
    let test = TestStore::new();
    let pulled = test.pull(&reference).await.unwrap();
    assert_eq!(pulled.id, image.id());
    assert_eq!(pulled.repo_tags, std::slice::from_ref(&reference));
    let by_digest = registry.reference("a/b", &image.manifest.digest.to_string());
    assert_eq!(pulled.repo_digests, std::slice::from_ref(&by_digest));
    assert_eq!(pulled.size, image.compressed_size());
    assert_eq!(pulled.annotations["org.example"], "yes");
    assert_eq!(
        pulled.config.config().as_ref().unwrap().user().as_deref(),
        Some("1000:1000")
    );

    let layers = test.store.layers_of(&pulled.id).unwrap();
    assert_eq!(fs::read_to_string(layers[1].join("etc/passwd")).unwrap(), "root");
    let whiteout = layers[0].join("etc/old").symlink_metadata().unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(fs::read_to_string(layers[0].join("new/file")).unwrap(), "new");
    assert!(test.names("tmp").is_empty());

    let hex = image.config.digest.hex();
    for key in [
        &pulled.id,
        &hex,
        &hex[..12],
        &format!("sha256:{}", &hex[..9]),
        &reference,
        &by_digest,
    ] {
        assert_eq!(test.store.get(key).unwrap().unwrap().id, pulled.id, "{key}");
    }
    let both = format!("{reference}@{}", image.manifest.digest);
    assert_eq!(test.store.get(&both).unwrap().unwrap().id, pulled.id);
    assert!(
        test.store
            .get(&format!("{}/a/b:other", registry.address()))
            .unwrap()
            .is_none()
    );
    assert!(test.store.get(&"0".repeat(64)).unwrap().is_none());
    assert!(test.store.get("Not A Reference").is_err());
    assert!(test.store.get("").is_err());
}

#[tokio::test]
async fn every_compression_and_media_type() {
    let registry = Registry::start();
    let test = TestStore::new();
    let plain = build::tar(&[("f", &"content ".repeat(100_000))]);
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let image = TestImage::new(vec![Layer::of(&plain, compression)]);
        let pulled = test.pull(&registry.push("c", "t", &image)).await.unwrap();
        let layers = test.store.layers_of(&pulled.id).unwrap();
        assert_eq!(fs::metadata(layers[0].join("f")).unwrap().len(), 800_000);
        test.store.remove(&pulled.id).await.unwrap();
        test.assert_empty();
    }
    let docker = TestImage::docker(vec![Layer::of(&plain, Compression::Gzip)]);
    assert_eq!(
        test.pull(&registry.push("d", "t", &docker)).await.unwrap().id,
        docker.id()
    );
}

#[tokio::test]
async fn streams_of_several_members() {
    let registry = Registry::start();
    let test = TestStore::new();
    let plain = build::tar(&[("f", &"x".repeat(3000))]);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut blob = build::compress(&plain[..700], compression);
        blob.extend(build::compress(&plain[700..], compression));
        if compression == Compression::Zstd {
            // A skippable frame, as zstd:chunked has at its end.
            blob.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        }
        let mut layer = Layer::of(&plain, compression);
        layer.blob = build::Blob::new(blob);
        let pulled = test
            .pull(&registry.push("m", "t", &TestImage::new(vec![layer])))
            .await
            .unwrap();
        test.store.remove(&pulled.id).await.unwrap();
    }
    test.assert_empty();
}

#[tokio::test]
async fn an_index_leads_to_this_machine() {
    let registry = Registry::start();
    let here = two_layers();
    let other = TestImage::new(vec![Layer::files(&[("wrong", "")])]);
    let attestation = TestImage::new(vec![Layer::files(&[("attestation", "")])]);
    for media_type in [build::OCI_INDEX, build::DOCKER_LIST] {
        let test = TestStore::new();
        let images = [
            ("unknown/unknown", &attestation),
            ("linux/s390x", &other),
            ("linux/amd64", &here),
        ];
        let index = build::index(media_type, &images);
        registry.push("multi", "unused", &here);
        registry.serve_manifest("multi", "latest", media_type, &index);
        let pulled = test.pull(&registry.reference("multi", "latest")).await.unwrap();
        assert_eq!(pulled.id, here.id());
        assert_eq!(
            pulled.repo_digests,
            [registry.reference("multi", &index.digest.to_string())]
        );
        assert_eq!(pulled.manifest_digest, here.manifest.digest);
        let by_manifest = registry.reference("multi", &here.manifest.digest.to_string());
        assert_eq!(test.store.get(&by_manifest).unwrap().unwrap().id, here.id());
    }
    let nothing = build::index(build::OCI_INDEX, &[("linux/s390x", &other)]);
    registry.serve_manifest("multi", "none", build::OCI_INDEX, &nothing);
    let test = TestStore::new();
    let error = test.pull(&registry.reference("multi", "none")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has no image for platform linux/amd64"),
        "{error}"
    );
    test.assert_empty();
}

#[tokio::test]
async fn what_is_here_is_not_fetched() {
    let registry = Registry::start();
    let image = two_layers();
    let reference = registry.push("a", "one", &image);
    let test = TestStore::new();
    let first = test.pull(&reference).await.unwrap();
    assert_eq!(test.pull(&reference).await.unwrap().id, first.id);
    registry.push("a", "two", &image);
    let again = test.pull(&registry.reference("a", "two")).await.unwrap();
    assert_eq!(
        again.repo_tags,
        [reference.clone(), registry.reference("a", "two")]
    );
    assert_eq!(again.repo_digests.len(), 1);
    for layer in &image.layers {
        assert_eq!(registry.fetches(&layer.blob), 1);
    }
    assert_eq!(registry.fetches(&image.config), 1);
    // Another compression of a known layer, in another repository.
    let plain = build::tar(&[
        ("etc/", ""),
        ("etc/passwd", "root"),
        ("etc/old", "old"),
        ("bin/sh", "#!"),
    ]);
    let known = Layer::of(&plain, Compression::Zstd);
    let new = Layer::files(&[("tenth", "only this moves")]);
    let other = TestImage::new(vec![known.clone(), new.clone()]);
    test.pull(&registry.push("other", "t", &other)).await.unwrap();
    assert_eq!(
        (registry.fetches(&known.blob), registry.fetches(&new.blob)),
        (0, 1)
    );
    assert_eq!(test.names("layers").len(), 3);
}

#[tokio::test]
async fn a_moved_tag_leaves_the_old_image() {
    let registry = Registry::start();
    let (old, new) = (two_layers(), TestImage::new(vec![Layer::files(&[("n", "")])]));
    let test = TestStore::new();
    let reference = registry.push("r", "latest", &old);
    test.pull(&reference).await.unwrap();
    registry.push("r", "latest", &new);
    assert_eq!(test.pull(&reference).await.unwrap().id, new.id());
    let old = test.store.get(&old.id()).unwrap().unwrap();
    assert!(old.repo_tags.is_empty());
    assert_eq!(old.repo_digests.len(), 1);
    assert_eq!(test.store.get(&reference).unwrap().unwrap().id, new.id());
    assert_eq!(test.store.list().len(), 2);
}

#[tokio::test]
async fn by_digest_there_is_no_tag() {
    let registry = Registry::start();
    let image = two_layers();
    registry.push("r", "t", &image);
    let test = TestStore::new();
    let reference = registry.reference("r", &image.manifest.digest.to_string());
    let pulled = test.pull(&reference).await.unwrap();
    assert_eq!(
        (pulled.repo_tags.len(), &pulled.repo_digests),
        (0, &vec![reference.clone()])
    );
    let both = format!("{}@{}", registry.reference("r", "ignored"), image.manifest.digest);
    assert_eq!(test.pull(&both).await.unwrap().repo_tags.len(), 0);
}

#[tokio::test]
async fn pulls_at_once_fetch_a_layer_once() {
    let registry = Registry::start();
    let shared = Layer::files(&[("shared", &"s".repeat(100_000))]);
    let test = TestStore::new();
    let mut pulls = Vec::new();
    for i in 0..8 {
        let own = Layer::files(&[("own", &i.to_string())]);
        let reference = registry.push(&format!("r{i}"), "t", &TestImage::new(vec![shared.clone(), own]));
        let store = test.store.clone();
        let request = pintle_images::PullRequest {
            reference,
            auth: None,
        };
        pulls.push(tokio::spawn(async move { store.pull(request).await }));
    }
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(registry.fetches(&shared.blob), 1);
    assert_eq!((test.names("layers").len(), test.store.list().len()), (9, 8));
}

#[tokio::test]
async fn odd_images_are_fine() {
    let registry = Registry::start();
    let test = TestStore::new();
    let none = test
        .pull(&registry.push("none", "t", &TestImage::new(vec![])))
        .await
        .unwrap();
    assert!(test.store.layers_of(&none.id).unwrap()[0].is_dir());
    let same = Layer::files(&[("same", "")]);
    let empty = Layer::of(&[0; 1024], Compression::Gzip);
    let twice = TestImage::new(vec![same.clone(), empty.clone(), same.clone(), empty]);
    let twice = test.pull(&registry.push("twice", "t", &twice)).await.unwrap();
    assert_eq!(test.store.layers_of(&twice.id).unwrap().len(), 2);
    assert_eq!(registry.fetches(&same.blob), 1);
    test.store.remove(&twice.id).await.unwrap();
    test.store.remove(&none.id).await.unwrap();
    test.assert_empty();
}

#[tokio::test]
async fn one_id_from_two_registries() {
    let registries = [Registry::start(), Registry::start()];
    let image = two_layers();
    let test = TestStore::new();
    for registry in &registries {
        test.pull(&registry.push("same", "t", &image)).await.unwrap();
    }
    let images = test.store.list();
    assert_eq!(
        (
            images.len(),
            images[0].repo_tags.len(),
            images[0].repo_digests.len()
        ),
        (1, 2, 2)
    );
    assert_eq!(Digest::of(&image.config.bytes).to_string(), images[0].id);
}
