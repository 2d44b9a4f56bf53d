//! Archives and layers given back: what comes out is what went in.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;

use pintle_images::{Error, ImportRequest, LayerState, Progress, Step, Verified};

use crate::support::TestStore;
use crate::support::build::{self, Compression, Layer, TestImage};
use crate::support::registry::Registry;

/// A layer with everything that a frame must keep: folders, links, long names, attributes, padding, a long end.
fn odd_layer() -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_uid(12);
        header.set_gid(13);
        header.set_mtime(1_000_000_007);
        header.set_size(content.len() as u64);
        match kind {
            tar::EntryType::Symlink | tar::EntryType::Link => {
                builder.append_link(&mut header, name, link).unwrap();
            }
            _ => builder.append_data(&mut header, name, content).unwrap(),
        }
    };
    add("dir/", tar::EntryType::Directory, "", b"");
    add("dir/empty", tar::EntryType::Regular, "", b"");
    add("dir/big", tar::EntryType::Regular, "", &vec![7; 300_001]);
    add(
        &format!("dir/{}", "long".repeat(40)),
        tar::EntryType::Regular,
        "",
        b"x",
    );
    add("dir/hard", tar::EntryType::Link, "dir/big", b"");
    add("to-dir", tar::EntryType::Symlink, "dir", b"");
    add("to-dir/through-a-link", tar::EntryType::Regular, "", b"inside");
    add(".wh.gone", tar::EntryType::Regular, "", b"");
    let mut tar = builder.into_inner().unwrap();
    tar.extend_from_slice(&[0; 8192]);
    Layer::of(&tar, Compression::Gzip)
}

fn export(test: &TestStore, keys: &[&str]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    test.store.export(&keys, &mut file).unwrap();
    file.rewind().unwrap();
    file
}

async fn import(test: &TestStore, file: File) -> Result<Vec<Arc<pintle_images::Image>>, Error> {
    let request = ImportRequest {
        file,
        names: Vec::new(),
    };
    test.store.import(request, None).await
}

fn damage(test: &TestStore, layer: &Layer, name: &str) {
    let path = test.path(&format!("layers/{}/{name}", layer.diff_id.hex()));
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(b"!").unwrap();
}

fn verify(test: &TestStore) -> Vec<Verified> {
    let mut all = Vec::new();
    test.store.verify(&[], |layer| all.push(layer.clone())).unwrap();
    all
}

#[tokio::test]
async fn what_is_exported_can_be_imported_again() {
    let registry = Registry::start();
    let image = TestImage::new(vec![odd_layer(), Layer::files(&[("second", "2")])]);
    let first = TestStore::new();
    let reference = registry.push("r", "t", &image);
    first.pull(&reference).await.unwrap();
    first.store.tag(&reference, "example.com/other:name").unwrap();
    let archive = export(&first, &[&reference]);
    let second = TestStore::new();
    let images = import(&second, archive).await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].id, image.id());
    assert_eq!(
        images[0].repo_tags,
        [reference, "example.com/other:name".to_owned()]
    );
    assert!(images[0].repo_digests.is_empty());
    assert_eq!(images[0].annotations["org.example"], "yes");
    // The layers are plain now, so the second archive has the first one's very manifest.
    let again = export(&second, &[&image.id()]);
    let third = TestStore::new();
    let third_images = import(&third, again).await.unwrap();
    assert_eq!(third_images[0].manifest_digest, images[0].manifest_digest);
    assert!(
        verify(&third)
            .iter()
            .all(|layer| layer.state == LayerState::Whole)
    );
    let test = third.reopen();
    assert_eq!(test.store.list().len(), 1);
    test.store.remove(&image.id()).await.unwrap();
    test.assert_empty();
}

#[tokio::test]
async fn dockers_archives_compressed_ones_and_links() {
    let layer = Layer::files(&[("a", "a")]);
    let image = TestImage::new(vec![layer.clone(), layer.clone()]);
    let plain = build::tar(&[("a", "a")]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).unwrap();
    };
    add("x/layer.tar", &plain);
    add("config.json", &image.config.bytes);
    let manifest = r#"[{"Config": "config.json", "RepoTags": ["team/app:1"], "Layers": ["x/layer.tar", "y/layer.tar"]}]"#;
    add("manifest.json", manifest.as_bytes());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "y/layer.tar", "../x/layer.tar")
        .unwrap();
    let archive = builder.into_inner().unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&build::compress(&archive, compression)).unwrap();
        let test = TestStore::new();
        let request = ImportRequest {
            file,
            names: vec!["localhost/also".to_owned()],
        };
        let progress = Arc::new(Progress::default());
        let images = test
            .store
            .import(request, Some(Arc::clone(&progress)))
            .await
            .unwrap();
        assert_eq!((images.len(), &images[0].id), (1, &image.id()));
        assert_eq!(
            images[0].repo_tags,
            ["docker.io/team/app:1", "localhost/also:latest"]
        );
        assert!(
            progress
                .layers()
                .iter()
                .any(|layer| layer.now() == (layer.total, Step::Done))
        );
    }
}

#[tokio::test]
async fn bad_archives_leave_nothing() {
    let test = TestStore::new();
    let layer = Layer::files(&[("a", "a")]);
    let image = TestImage::new(vec![layer.clone()]);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": build::OCI_MANIFEST, "digest": image.manifest.digest.to_string(), "size": 1,
    }]});
    let blob = |digest: pintle_images::Digest| format!("blobs/sha256/{}", digest.hex());
    let (manifest, config) = (blob(image.manifest.digest), blob(image.config.digest));
    let index = index.to_string();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (manifest_text, config_text) = (text(&image.manifest.bytes), text(&image.config.bytes));
    let forged = blob(layer.blob.digest);
    let archives: [&[(&str, &str)]; 6] = [
        &[],
        &[("index.json", "{")],
        &[("index.json", "{}")],
        &[(
            "manifest.json",
            r#"[{"Config": "../../etc/passwd", "Layers": []}]"#,
        )],
        &[("index.json", &index), ("oci-layout", "{}")],
        &[
            ("index.json", &index),
            (&manifest, &manifest_text),
            (&config, &config_text),
            (&forged, "forged"),
        ],
    ];
    for entries in archives {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&builder.into_inner().unwrap()).unwrap();
        assert!(import(&test, file).await.is_err(), "{entries:?}");
        test.assert_empty();
    }
    let mut noise = tempfile::tempfile().unwrap();
    noise.write_all(&[0x5a; 4000]).unwrap();
    assert!(import(&test, noise).await.is_err());
    test.assert_empty();
}

#[tokio::test]
async fn damage_on_disk_is_found_and_not_passed_on() {
    let registry = Registry::start();
    let layer = odd_layer();
    let image = TestImage::new(vec![layer.clone()]);
    let test = TestStore::new();
    let reference = registry.push("r", "t", &image);
    test.pull(&reference).await.unwrap();
    let whole = Verified {
        diff_id: layer.diff_id,
        state: LayerState::Whole,
    };
    assert_eq!(verify(&test), [whole]);
    damage(&test, &layer, "dir/big");
    assert!(
        matches!(&verify(&test)[0].state, LayerState::Damaged(reason) if reason.contains("not what was unpacked"))
    );
    let exported = test
        .store
        .export(std::slice::from_ref(&reference), std::io::sink());
    assert!(
        matches!(
            exported,
            Err(Error::LayerUnavailable { .. } | Error::BadArchive { .. })
        ),
        "{exported:?}"
    );
    fs::remove_file(test.path(&format!("layers/{}/dir/empty", layer.diff_id.hex()))).unwrap();
    fs::write(
        test.path(&format!("layers/{}/dir/big", layer.diff_id.hex())),
        "short",
    )
    .unwrap();
    assert!(matches!(&verify(&test)[0].state, LayerState::Damaged(_)));
}

#[tokio::test]
async fn a_layer_that_replaces_its_own_entries_can_not_be_told() {
    let registry = Registry::start();
    let layer = Layer::files(&[("a", "first"), ("a", "second")]);
    let image = TestImage::new(vec![layer.clone()]);
    let test = TestStore::new();
    let reference = registry.push("r", "t", &image);
    test.pull(&reference).await.unwrap();
    assert_eq!(verify(&test)[0].state, LayerState::Unknown);
    assert!(test.names("frames").is_empty());
    let exported = test.store.export(&[reference], std::io::sink());
    assert!(
        matches!(exported, Err(Error::LayerUnavailable { .. })),
        "{exported:?}"
    );
}

#[tokio::test]
async fn names_come_and_go() {
    let registry = Registry::start();
    let test = TestStore::new();
    let image = TestImage::new(vec![Layer::files(&[("a", "a")])]);
    let reference = registry.push("r", "t", &image);
    test.pull(&reference).await.unwrap();
    let tagged = test.store.tag(&image.id(), "x").unwrap();
    assert!(
        tagged
            .repo_tags
            .contains(&"docker.io/library/x:latest".to_owned())
    );
    assert!(matches!(
        test.store.tag("nothing:here", "x"),
        Err(Error::NoSuchImage { .. })
    ));
    let by_digest = format!("x@{}", image.manifest.digest);
    assert!(matches!(
        test.store.tag(&reference, &by_digest),
        Err(Error::NotATag { .. })
    ));
    assert!(test.store.untag(&reference).unwrap());
    assert!(!test.store.untag(&reference).unwrap());
    let test = test.reopen();
    assert_eq!(test.store.list()[0].repo_tags, ["docker.io/library/x:latest"]);
    assert!(test.store.untag("x").unwrap());
    assert!(test.reopen().store.list()[0].repo_tags.is_empty());
}

#[tokio::test]
async fn a_pipe_is_spooled() {
    let test = TestStore::new();
    let mut file = test.store.spool().unwrap();
    file.write_all(b"spooled").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "spooled");
    assert!(test.names("tmp").is_empty());
}
