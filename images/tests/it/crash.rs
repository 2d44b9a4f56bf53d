//! What a crash can leave on disk, and what a start makes of it.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use pintle_images::{PullRequest, Store};

use crate::support::build::{Layer, TestImage};
use crate::support::registry::Registry;
use crate::support::{TestStore, config};

/// What the child process is to do, in its environment.
const FOLDER: &str = "PINTLE_TEST_FOLDER";
const REFERENCE: &str = "PINTLE_TEST_REFERENCE";

/// Not a test of its own: the process that dies. It pulls, makes a snapshot, releases it and removes the image.
#[tokio::test]
async fn child() {
    let (Some(folder), Ok(reference)) = (std::env::var_os(FOLDER), std::env::var(REFERENCE)) else {
        return;
    };
    let store = Store::open(config(Path::new(&folder))).unwrap();
    let image = store
        .pull(PullRequest {
            reference,
            auth: None,
        })
        .await
        .unwrap();
    store.snapshot("c", &image.id).unwrap();
    store.release("c").unwrap();
    store.remove(&image.id).await.unwrap();
}

/// Lets a child die at a point.
fn die_at(point: &str, folder: &Path, reference: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture"])
        .env("PINTLE_IMAGES_CRASH", point)
        .env(FOLDER, folder)
        .env(REFERENCE, reference)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.signal(), Some(6), "it died at {point}: {shown}");
}

/// What is on disk is what the records say, and every image is whole.
fn assert_whole(test: &TestStore, image: &TestImage, point: &str) {
    assert!(test.names("tmp").is_empty(), "{point}");
    let listed = test.store.list();
    let held = !test.store.snapshots().is_empty() || !listed.is_empty();
    let layers = image
        .layers
        .iter()
        .filter(|_| held)
        .map(|layer| layer.diff_id.hex());
    let layers: std::collections::BTreeSet<String> = layers.collect();
    assert_eq!(test.names("layers"), layers, "{point}");
    assert_eq!(test.names("frames"), layers, "{point}");
    for found in listed {
        assert_eq!(found.repo_tags.len(), 1, "{point}");
        let layers = test.store.layers_of(&found.id).unwrap();
        assert_eq!(fs::read_to_string(layers[1].join("a")).unwrap(), "a", "{point}");
        assert_eq!(fs::read_to_string(layers[0].join("b/c")).unwrap(), "c", "{point}");
    }
}

#[tokio::test]
async fn a_process_may_die_at_any_step() {
    let registry = Registry::start();
    let image = TestImage::new(vec![Layer::files(&[("a", "a")]), Layer::files(&[("b/c", "c")])]);
    let reference = registry.push("r", "t", &image);
    for (point, listed) in [
        ("described", 0),
        ("layer-begun", 0),
        ("layer-unpacked", 0),
        ("layers-unpacked", 0),
        ("synced", 0),
        ("frame-placed", 0),
        ("layer-placed", 0),
        ("layers-placed", 0),
        ("recorded", 1),
        ("snapshot-made", 1),
        ("snapshot-placed", 1),
        ("snapshot-moved", 1),
        ("image-forgotten", 0),
        ("layers-moved", 0),
        ("layers-forgotten", 0),
    ] {
        let test = TestStore::new().died(|folder| die_at(point, folder, &reference));
        assert_eq!(test.store.list().len(), listed, "{point}");
        assert_eq!(
            test.store.snapshots().len(),
            usize::from(point == "snapshot-placed"),
            "{point}"
        );
        assert_whole(&test, &image, point);
        test.pull(&reference).await.unwrap();
        let test = test.reopen();
        assert_eq!(test.store.list().len(), 1, "{point}");
        assert_whole(&test, &image, point);
    }
}

async fn pulled(registry: &Registry) -> (TestStore, TestImage) {
    let image = TestImage::new(vec![Layer::files(&[("a", "a")]), Layer::files(&[("b/c", "c")])]);
    let test = TestStore::new();
    test.pull(&registry.push("r", "t", &image)).await.unwrap();
    (test, image)
}

#[tokio::test]
async fn leftovers_are_removed() {
    let registry = Registry::start();
    let (test, image) = pulled(&registry).await;
    let layers = test.names("layers");
    fs::create_dir_all(test.path("tmp/7/half/a/layer")).unwrap();
    fs::create_dir_all(test.path(&format!("layers/{}", "0".repeat(64)))).unwrap();
    fs::create_dir_all(test.path("layers/not-a-layer/x")).unwrap();
    fs::create_dir_all(test.path("snapshots/half/upper")).unwrap();
    fs::write(test.path("views/half"), "{").unwrap();
    fs::write(test.path(&format!("frames/{}", "0".repeat(64))), "half").unwrap();
    let test = test.reopen();
    assert!(test.names("tmp").is_empty() && test.names("snapshots").is_empty());
    assert!(test.names("views").is_empty());
    assert_eq!(
        (test.names("layers"), test.names("frames")),
        (layers.clone(), layers)
    );
    assert_eq!(test.store.list()[0].id, image.id());
}

#[tokio::test]
async fn an_image_without_its_layers_is_forgotten() {
    let registry = Registry::start();
    let (test, image) = pulled(&registry).await;
    fs::remove_dir_all(test.path(&format!("layers/{}", image.layers[1].diff_id.hex()))).unwrap();
    let test = test.reopen();
    test.assert_empty();
    assert!(test.store.get(&registry.reference("r", "t")).unwrap().is_none());
    let again = test.pull(&registry.reference("r", "t")).await.unwrap();
    assert_eq!(again.id, image.id());
    let test = test.reopen();
    assert_eq!(test.store.list().len(), 1);
}

#[tokio::test]
async fn a_snapshot_whose_layers_are_gone_can_be_released() {
    let registry = Registry::start();
    let (test, image) = pulled(&registry).await;
    test.store.snapshot("c", &image.id()).unwrap();
    fs::remove_dir_all(test.path(&format!("layers/{}", image.layers[0].diff_id.hex()))).unwrap();
    let test = test.reopen();
    assert_eq!(test.store.snapshots(), ["c"]);
    test.store.release("c").unwrap();
    test.assert_empty();
}
