//! Images and snapshots from the first pull to the last removal, also over restarts.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use pintle_images::{Error, Store, Usage};

use crate::support::build::{Compression, Layer, TestImage};
use crate::support::registry::Registry;
use crate::support::{TestStore, config};

fn images() -> (TestImage, TestImage) {
    let shared = Layer::files(&[("shared", "shared")]);
    let first = TestImage::new(vec![shared.clone(), Layer::files(&[("one", "1")])]);
    (first, TestImage::new(vec![shared, Layer::files(&[("two", "2")])]))
}

#[tokio::test]
async fn removal_keeps_what_others_hold() {
    let registry = Registry::start();
    let (first, second) = images();
    let test = TestStore::new();
    test.pull(&registry.push("first", "t", &first)).await.unwrap();
    let before = test.store.usage();
    let reference = registry.push("second", "t", &second);
    test.pull(&reference).await.unwrap();
    test.pull(&registry.push("second", "u", &second)).await.unwrap();
    assert_eq!(test.names("layers").len(), 3);
    assert!(test.store.usage().bytes > before.bytes);
    test.store.remove(&reference).await.unwrap();
    assert!(test.store.get(&second.id()).unwrap().is_none());
    assert!(
        test.store
            .get(&registry.reference("second", "u"))
            .unwrap()
            .is_none()
    );
    assert_eq!((test.names("layers").len(), test.store.usage()), (2, before));
    for key in [reference.as_str(), &second.id(), "nowhere/nothing:here"] {
        test.store.remove(key).await.unwrap();
    }
    assert!(matches!(
        test.store.remove("Not A Name").await,
        Err(Error::InvalidReference { .. })
    ));
    let (one, two) = (test.store.clone(), test.store.clone());
    let id = first.id();
    let (a, b) = tokio::join!(one.remove(&id), two.remove(&id));
    a.and(b).unwrap();
    test.assert_empty();
}

#[tokio::test]
async fn a_snapshot_holds_its_layers() {
    let registry = Registry::start();
    let (first, _) = images();
    let test = TestStore::new();
    let image = test.pull(&registry.push("r", "t", &first)).await.unwrap();
    let snapshot = test.store.snapshot("c1", &image.id).unwrap();
    assert_eq!(snapshot.lower, test.store.layers_of(&image.id).unwrap());
    assert!(snapshot.upper.is_dir() && snapshot.work.is_dir());
    assert_eq!(
        snapshot.upper.metadata().unwrap().permissions().mode() & 0o7777,
        0o755
    );
    assert!(matches!(
        test.store.snapshot("c1", &image.id),
        Err(Error::SnapshotExists { .. })
    ));
    fs::write(snapshot.upper.join("written"), "by the container").unwrap();
    test.store.remove(&image.id).await.unwrap();
    assert_eq!(test.names("layers").len(), 2);

    let test = test.reopen();
    assert_eq!(
        (test.store.snapshots(), test.names("layers").len()),
        (vec!["c1".to_owned()], 2)
    );
    assert_eq!(test.store.snapshot_of("c1"), Some(snapshot.clone()));
    assert!(snapshot.upper.join("written").exists());
    test.pull(&registry.reference("r", "t")).await.unwrap();
    assert_eq!(
        registry.fetches(&first.layers[0].blob),
        1,
        "the snapshot's layers are known"
    );
    test.store.remove(&first.id()).await.unwrap();
    test.store.release("c1").unwrap();
    test.store.release("c1").unwrap();
    assert!(test.store.snapshot_of("c1").is_none());
    test.assert_empty();
}

#[tokio::test]
async fn what_a_container_writes_may_lie_elsewhere() {
    let registry = Registry::start();
    let (first, _) = images();
    let mut test = TestStore::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().join("fast");
    let image = test.pull(&registry.push("r", "t", &first)).await.unwrap();
    let error = test.store.snapshot_in("c", &image.id, Some(&place)).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "nobody named it: {error}");

    test = test.reopen_with(|config| config.snapshot_places = vec![place.clone()]);
    let id = "c".repeat(64);
    let snapshot = test.store.snapshot_in(&id, &image.id, Some(&place)).unwrap();
    assert!(snapshot.upper.starts_with(place.join(&id)) && snapshot.upper.is_dir());
    assert!(snapshot.work.parent() == snapshot.upper.parent());
    assert_eq!(snapshot.lower, test.store.layers_of(&image.id).unwrap());
    fs::write(snapshot.upper.join("written"), "by the container").unwrap();
    assert!(matches!(
        test.store.snapshot_in(&id, &image.id, Some(&place)),
        Err(Error::SnapshotExists { .. })
    ));
    // What a crash has left goes, what has a record stays, also when the configuration names the place no more.
    let stale = place.join("d".repeat(64));
    fs::create_dir(&stale).unwrap();
    test = test.reopen_with(|config| config.snapshot_places = vec![place.clone()]);
    assert!(!stale.exists() && snapshot.upper.join("written").exists());
    test = test.reopen();
    assert_eq!(test.store.snapshot_of(&id), Some(snapshot.clone()));
    test.store.release(&id).unwrap();
    assert!(!place.join(&id).exists() && test.store.snapshots().is_empty());
    test.store.remove(&image.id).await.unwrap();
    test.assert_empty();
}

#[tokio::test]
async fn snapshots_that_can_not_be_made() {
    let registry = Registry::start();
    let (first, _) = images();
    let test = TestStore::new();
    assert!(matches!(
        test.store.snapshot("c", "unknown"),
        Err(Error::NoSuchImage { .. })
    ));
    let image = test.pull(&registry.push("r", "t", &first)).await.unwrap();
    for id in ["", ".", "..", "../x", "a/b", ".hidden", "nul\0", &"x".repeat(201)] {
        assert!(
            matches!(
                test.store.snapshot(id, &image.id),
                Err(Error::InvalidContainerId { .. })
            ),
            "{id:?}"
        );
        assert!(test.store.release(id).is_err());
    }
    // Something lies in the way: nothing is held afterwards.
    fs::create_dir_all(test.path("snapshots/taken/x")).unwrap();
    assert!(matches!(
        test.store.snapshot("taken", &image.id),
        Err(Error::Io { .. })
    ));
    assert!(test.store.snapshots().is_empty() && test.names("tmp").is_empty());
    test.store.release("taken").unwrap();
    test.store.remove(&image.id).await.unwrap();
    test.assert_empty();
}

#[tokio::test]
async fn the_root_folder_is_the_images() {
    let registry = Registry::start();
    let mut header = tar::Header::new_gnu();
    header.set_path("./").unwrap();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1711);
    header.set_uid(7);
    header.set_gid(8);
    header.set_size(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &[][..]).unwrap();
    let base = Layer::of(&builder.into_inner().unwrap(), Compression::Gzip);
    let image = TestImage::new(vec![base, Layer::files(&[("f", "")])]);
    let test = TestStore::new();
    test.pull(&registry.push("r", "t", &image)).await.unwrap();
    let upper = test
        .store
        .snapshot("c", &image.id())
        .unwrap()
        .upper
        .metadata()
        .unwrap();
    assert_eq!((upper.mode() & 0o7777, upper.uid(), upper.gid()), (0o1711, 7, 8));
}

#[tokio::test]
async fn an_overlay_of_a_snapshot_shows_the_image() {
    let registry = Registry::start();
    let base = Layer::files(&[("kept", "base"), ("gone", ""), ("dir/old", ""), ("over", "base")]);
    let upper = Layer::files(&[
        (".wh.gone", ""),
        ("dir/.wh..wh..opq", ""),
        ("dir/new", ""),
        ("over", "upper"),
    ]);
    let test = TestStore::new();
    let image = test
        .pull(&registry.push("r", "t", &TestImage::new(vec![base, upper])))
        .await
        .unwrap();
    let snapshot = test.store.snapshot("c", &image.id).unwrap();
    let lower: Vec<String> = snapshot
        .lower
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        snapshot.upper.display(),
        snapshot.work.display()
    );
    let target = test.folder.path().join("mounted");
    fs::create_dir(&target).unwrap();
    // In a mount namespace of its own, which ends with the program.
    let script =
        "mount -t overlay -o \"$1\" overlay \"$2\" && cd \"$2\" && find . -type f | sort && cat over kept";
    let output = std::process::Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "sh",
            &options,
        ])
        .arg(&target)
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        shown,
        "./dir/new\n./kept\n./over\nupperbase",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_folder_that_is_only_passed_through_stays_as_it_is() {
    let registry = Registry::start();
    let mut header = tar::Header::new_gnu();
    header.set_path("tmp/").unwrap();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_gid(9);
    header.set_uid(0);
    header.set_mtime(4_000);
    header.set_size(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &[][..]).unwrap();
    let base = Layer::of(&builder.into_inner().unwrap(), Compression::Gzip);
    let upper = Layer::files(&[("tmp/file", "x"), ("new/file", "x")]);
    let image = TestImage::new(vec![base, upper]);
    let test = TestStore::new();
    let reference = registry.push("r", "t", &image);
    for _ in 0..2 {
        test.pull(&reference).await.unwrap();
    }
    let test = test.reopen();
    let layers = test.store.layers_of(&image.id()).unwrap();
    assert_eq!(layers.len(), 3);
    let shown = layers[0].join("tmp").metadata().unwrap();
    assert_eq!(
        (shown.mode() & 0o7777, shown.gid(), shown.mtime()),
        (0o1777, 9, 4_000)
    );
    assert_eq!(fs::read_dir(&layers[0]).unwrap().count(), 1);
    test.store.snapshot("c", &image.id()).unwrap();
    test.store.remove(&image.id()).await.unwrap();
    assert_eq!(test.names("layers").len(), 3);
    test.store.release("c").unwrap();
    test.assert_empty();
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let registry = Registry::start();
    let (first, second) = images();
    let test = TestStore::new();
    test.pull(&registry.push("first", "t", &first)).await.unwrap();
    test.pull(&registry.push("second", "t", &second)).await.unwrap();
    let before = (test.store.usage(), format!("{:?}", test.store.list()));
    let test = test.reopen();
    assert_eq!((test.store.usage(), format!("{:?}", test.store.list())), before);
    let again = test.pull(&registry.reference("first", "t")).await.unwrap();
    assert_eq!(registry.fetches(&first.config), 1);
    assert_eq!(again.id, first.id());
}

#[tokio::test]
async fn one_process_has_a_store() {
    let test = TestStore::new();
    assert!(matches!(
        Store::open(config(test.folder.path())),
        Err(Error::Database { .. })
    ));
    assert_eq!(test.store.usage(), Usage::default());
}

#[tokio::test]
async fn pinned_images_say_so() {
    let registry = Registry::start();
    let (first, second) = images();
    let pattern = format!("{}/first*", registry.address());
    let test = TestStore::with(|config| config.pinned = vec![pattern]);
    assert!(
        test.pull(&registry.push("first", "t", &first))
            .await
            .unwrap()
            .pinned
    );
    assert!(
        !test
            .pull(&registry.push("second", "t", &second))
            .await
            .unwrap()
            .pinned
    );
}

#[tokio::test]
async fn ambiguous_prefixes_are_refused() {
    let registry = Registry::start();
    let test = TestStore::new();
    // Seventeen images can't have seventeen different first digits.
    for i in 0..17 {
        let image = TestImage::edited(vec![], |config, _| config["author"] = i.to_string().into());
        test.pull(&registry.push(&format!("r{i}"), "t", &image))
            .await
            .unwrap();
    }
    let results: Vec<_> = "0123456789abcdef"
        .chars()
        .map(|digit| test.store.get(&digit.to_string()))
        .collect();
    assert!(
        results
            .iter()
            .any(|result| matches!(result, Err(Error::AmbiguousId { .. })))
    );
}
