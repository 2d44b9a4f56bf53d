//! A power cut at any instant of pulls and a removal: what is listed afterwards is whole, what was answered is listed, and
//! the next pull completes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use pintle_images::{LayerState, PullRequest, Store};

use crate::support::build::{Compression, Layer, TestImage, tar};
use crate::support::config;
use crate::support::disk::Disk;
use crate::support::registry::Registry;

/// How many cuts there are, unless the environment says more.
const CUTS: usize = 8;
const MORE: &str = "PINTLE_TEST_CUTS";

/// An image, and between which instants it must be listed.
struct Promise {
    reference: String,
    listed: Range<usize>,
}

#[tokio::test(flavor = "multi_thread")]
async fn ext4_loses_nothing_that_was_answered() {
    let mkfs = [
        "mkfs.ext4",
        "-q",
        "-F",
        "-E",
        "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    ];
    any_instant(&mkfs, 96).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xfs_loses_nothing_that_was_answered() {
    any_instant(&["mkfs.xfs", "-q", "-f", "-K"], 320).await;
}

async fn any_instant(mkfs: &[&str], megabytes: usize) {
    let registry = Registry::start();
    let base = layer(0);
    let first = TestImage::new(vec![base.clone(), layer(1), layer(2)]);
    let second = TestImage::new(vec![base.clone(), layer(3), layer(4)]);
    let third = TestImage::new(vec![base, layer(5)]);
    let [first, second, third] =
        [("r", first), ("s", second), ("t", third)].map(|(name, image)| registry.push(name, "t", &image));

    let disk = Disk::new(mkfs, megabytes);
    let mounted = disk.mount();
    let store = Store::open(config(mounted.path())).unwrap();
    let begin = disk.instant();
    let id = pull(&store, &first).await;
    let first_answered = disk.instant();
    pull(&store, &second).await;
    let second_answered = disk.instant();
    store.remove(&id).await.unwrap();
    pull(&store, &third).await;
    let end = disk.instant();
    drop(store);
    drop(mounted);

    let promises = [
        (first, first_answered..second_answered),
        (second, second_answered..usize::MAX),
        (third, end..usize::MAX),
    ];
    let promises = promises.map(|(reference, listed)| Promise { reference, listed });
    let mut listed = 0;
    for (number, instant) in instants(&disk, begin, end).into_iter().enumerate() {
        listed += check(&disk, instant, number as u64, &promises).await;
    }
    assert!(listed > 0, "nothing was ever listed");
}

/// Cuts right before and after flushes, and between; the end is one of them.
fn instants(disk: &Disk, begin: usize, end: usize) -> Vec<usize> {
    let wanted = std::env::var(MORE)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(CUTS);
    let evenly = (1..=wanted).map(|number| begin + (end - begin) * number / wanted);
    let flushes: Vec<usize> = disk
        .flushes()
        .into_iter()
        .filter(|at| (begin..end).contains(at))
        .collect();
    let step = flushes.len().div_ceil(wanted).max(1);
    let mut all: Vec<usize> = evenly.chain(flushes.into_iter().step_by(step)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Cuts at an instant, and looks at what a new daemon makes of what is left. Gives back how many images were listed.
async fn check(disk: &Disk, instant: usize, seed: u64, promises: &[Promise]) -> usize {
    let mounted = disk.cut(instant, seed);
    let store = Store::open(config(mounted.path())).unwrap();
    let listed = store.list().len();
    assert_whole(&store, instant);
    for promise in promises
        .iter()
        .filter(|promise| promise.listed.contains(&instant))
    {
        assert!(
            store.get(&promise.reference).unwrap().is_some(),
            "{} was answered before {instant} and is gone",
            promise.reference
        );
    }
    for promise in promises {
        pull(&store, &promise.reference).await;
    }
    assert_eq!(store.list().len(), promises.len());
    assert_whole(&store, instant);
    assert_no_leftovers(mounted.path(), instant);
    listed
}

/// Every listed image's every layer is what its digest says.
fn assert_whole(store: &Store, instant: usize) {
    let mut states = BTreeMap::new();
    store
        .verify(&[], |layer| {
            states.insert(layer.diff_id.to_string(), layer.state.clone());
        })
        .unwrap();
    let damaged: Vec<_> = states
        .iter()
        .filter(|(_, state)| **state != LayerState::Whole)
        .collect();
    assert!(damaged.is_empty(), "after a cut at {instant}: {damaged:?}");
}

fn assert_no_leftovers(folder: &Path, instant: usize) {
    let names = |name: &str| {
        std::fs::read_dir(folder.join("images").join(name))
            .unwrap()
            .count()
    };
    assert_eq!(
        (names("tmp"), names("layers"), names("frames")),
        (0, 6, 6),
        "{instant}"
    );
}

async fn pull(store: &Store, reference: &str) -> String {
    let request = PullRequest {
        reference: reference.to_owned(),
        auth: None,
    };
    store.pull(request).await.unwrap().id.clone()
}

/// A layer of many small files; the first one has a large one, too, which goes to the disk while it is unpacked.
fn layer(number: usize) -> Layer {
    let sizes = (0..24).map(|file| file * 300);
    let mut files: Vec<(String, String)> = sizes
        .map(|size| (format!("folder{number}/file{size}"), text(number, size)))
        .collect();
    if number == 0 {
        files.push(("large".to_owned(), text(number, 1_200_000)));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, content)| (&**name, &**content))
        .collect();
    Layer::of(&tar(&files), Compression::Gzip)
}

/// Text that is nowhere like that of another layer.
fn text(number: usize, length: usize) -> String {
    let mut text = String::with_capacity(length + 20);
    let mut word = number as u64;
    while text.len() < length {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let _ = write!(text, "{word:x} ");
    }
    text.truncate(length);
    text
}
