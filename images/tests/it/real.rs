//! Pulls from Debian's docker-registry.

use pintle_images::{Auth, Credentials, Error};

use crate::support::TestStore;
use crate::support::build::{self, Compression, Layer, TestImage};
use crate::support::docker::DockerRegistry;

fn layers() -> Vec<Layer> {
    let compressions = [Compression::Gzip, Compression::Zstd, Compression::None];
    let layer = |(i, compression): (usize, Compression)| {
        Layer::of(
            &build::tar(&[("big", &format!("{i} ").repeat(500_000))]),
            compression,
        )
    };
    compressions.into_iter().enumerate().map(layer).collect()
}

#[tokio::test]
async fn by_tag_and_by_digest() {
    let registry = DockerRegistry::start();
    let image = TestImage::new(layers());
    let reference = registry.push("team/app", "v1", &image, None).await;
    let test = TestStore::new();
    let pulled = test.pull(&reference).await.unwrap();
    assert_eq!((&pulled.id, pulled.layers.len()), (&image.id(), 3));
    let by_digest = format!("{}/team/app@{}", registry.address, image.manifest.digest);
    assert_eq!(pulled.repo_digests, std::slice::from_ref(&by_digest));
    test.store.remove(&pulled.id).await.unwrap();
    test.assert_empty();
    assert_eq!(test.pull(&by_digest).await.unwrap().repo_digests, [by_digest]);
}

#[tokio::test]
async fn docker_schema_2_with_a_list() {
    let registry = DockerRegistry::start();
    let image = TestImage::docker(vec![Layer::files(&[("f", "f")])]);
    registry.push("d", "amd64", &image, None).await;
    let list = build::index(build::DOCKER_LIST, &[("linux/amd64", &image)]);
    registry
        .push_manifest("d", "latest", build::DOCKER_LIST, &list, None)
        .await;
    let test = TestStore::new();
    let pulled = test.pull(&format!("{}/d", registry.address)).await.unwrap();
    assert_eq!(pulled.repo_tags, [format!("{}/d:latest", registry.address)]);
    assert_eq!(
        pulled.repo_digests,
        [format!("{}/d@{}", registry.address, list.digest)]
    );
}

#[tokio::test]
async fn with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("htpasswd");
    // user:secret
    std::fs::write(
        &users,
        "user:$2b$05$XaWnw9018H476pdOz/3W8.unaxWZexacvZivkW3q0u5CYAC2llNWa\n",
    )
    .unwrap();
    let section = format!("auth: {{htpasswd: {{realm: test, path: {users:?}}}}}\n");
    let registry = DockerRegistry::with_auth(&section);
    let test = TestStore::new();
    let reference = format!("{}/private:t", registry.address);
    let error = test.pull(&reference).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let wrong = Credentials::Basic {
        username: "user".into(),
        password: "wrong".into(),
    };
    let auth = Some(Auth {
        server_address: None,
        credentials: wrong,
    });
    assert!(matches!(
        test.pull_as(&reference, auth).await,
        Err(Error::Unauthorized { .. })
    ));
    let image = TestImage::new(vec![Layer::files(&[("f", "f")])]);
    registry
        .push("private", "t", &image, Some(("user", "secret")))
        .await;
    let right = Credentials::Basic {
        username: "user".into(),
        password: "secret".into(),
    };
    let auth = Some(Auth {
        server_address: Some(registry.address.clone()),
        credentials: right,
    });
    assert_eq!(test.pull_as(&reference, auth).await.unwrap().id, image.id());
}
