//! Read-only views of images.

use pintle_images::Error;

use crate::support::TestStore;
use crate::support::build::{Layer, TestImage};
use crate::support::registry::Registry;

#[tokio::test]
async fn a_view_holds_its_layers_over_removal_and_restart() {
    let registry = Registry::start();
    let image = TestImage::new(vec![Layer::files(&[("a", "a")]), Layer::files(&[("b", "b")])]);
    let test = TestStore::new();
    let reference = registry.push("r", "t", &image);
    test.pull(&reference).await.unwrap();
    let view = test.store.view("pod-x", &reference).unwrap();
    assert_eq!(view.lower, test.store.layers_of(&reference).unwrap());
    assert_eq!(
        test.store.view("pod-x", &image.id()).unwrap(),
        view,
        "asked for once more"
    );
    assert!(test.store.snapshots().is_empty());
    test.store.remove(&image.id()).await.unwrap();
    let test = test.reopen();
    assert_eq!(test.store.views(), ["pod-x"]);
    assert_eq!(std::fs::read_to_string(view.lower[1].join("a")).unwrap(), "a");
    assert!(matches!(
        test.store.view("pod-y", &reference),
        Err(Error::NoSuchImage { .. })
    ));
    test.store.release_view("pod-x").unwrap();
    test.store.release_view("pod-x").unwrap();
    assert!(test.names("views").is_empty());
    test.assert_empty();
}

/// An overlay without an upper folder needs two others, and no folder twice.
#[tokio::test]
async fn a_view_can_be_mounted_whatever_the_image_has() {
    let registry = Registry::start();
    let test = TestStore::new();
    let layer = Layer::files(&[("a", "a")]);
    for (number, layers) in [vec![], vec![layer.clone()], vec![layer.clone(), layer]]
        .into_iter()
        .enumerate()
    {
        let reference = registry.push(&format!("r{number}"), "t", &TestImage::new(layers));
        test.pull(&reference).await.unwrap();
        let view = test.store.view(&format!("v{number}"), &reference).unwrap();
        let lower: Vec<String> = view.lower.iter().map(|path| path.display().to_string()).collect();
        let target = tempfile::tempdir().unwrap();
        let script = "mount -t overlay -o \"ro,lowerdir=$1\" overlay \"$2\" && ls \"$2\"";
        let output = std::process::Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                script,
                "sh",
                &lower.join(":"),
            ])
            .arg(target.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{number}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            if number == 0 { "" } else { "a" }
        );
    }
}

#[tokio::test]
async fn an_id_stands_for_one_image() {
    let registry = Registry::start();
    let test = TestStore::new();
    let first = registry.push("a", "t", &TestImage::new(vec![Layer::files(&[("a", "a")])]));
    let second = registry.push("b", "t", &TestImage::new(vec![Layer::files(&[("b", "b")])]));
    test.pull(&first).await.unwrap();
    test.pull(&second).await.unwrap();
    test.store.view("v", &first).unwrap();
    assert!(matches!(
        test.store.view("v", &second),
        Err(Error::SnapshotExists { .. })
    ));
    assert!(matches!(
        test.store.view("../v", &first),
        Err(Error::InvalidContainerId { .. })
    ));
}
