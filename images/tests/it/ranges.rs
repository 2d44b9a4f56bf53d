//! Blobs in several parts at once, where the network is slow.

use std::time::Duration;

use crate::support::TestStore;
use crate::support::build::{Compression, Layer, TestImage};
use crate::support::http::{Body, Request, Response};
use crate::support::registry::Registry;

/// After 64 KiB. Even an unoptimised build unpacks faster than that.
const PAUSE: Duration = Duration::from_millis(20);

/// Content that nothing compresses, so that the blob is as long as it.
fn noise(length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state % 64) as u8)
    };
    (0..length).map(|_| step()).collect()
}

fn range(request: &Request) -> Option<(usize, Option<usize>)> {
    let (from, to) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()))
}

/// Serves the layer slowly, and parts of it where `ranges` are offered.
fn slow(registry: &Registry, layer: &Layer, ranges: bool) {
    let (bytes, end) = (layer.blob.bytes.clone(), format!("/blobs/{}", layer.blob.digest));
    registry.lie(move |request| {
        if !request.path.ends_with(&end) {
            return None;
        }
        let unit = if ranges { "bytes" } else { "none" };
        Some(match range(request).filter(|_| ranges) {
            Some((from, to)) => {
                let to = to.map_or(bytes.len(), |to| (to + 1).min(bytes.len()));
                Response::new(206)
                    .with("accept-ranges", unit)
                    .with(
                        "content-range",
                        format!("bytes {from}-{}/{}", to - 1, bytes.len()),
                    )
                    .body(Body::Slow(bytes[from..to].to_vec(), PAUSE))
            }
            None => Response::new(200)
                .with("accept-ranges", unit)
                .body(Body::Slow(bytes.clone(), PAUSE)),
        })
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_is_asked_for_parts() {
    let layer = Layer::of(
        &crate::support::build::tar(&[("big", &noise(16 << 20))]),
        Compression::None,
    );
    let image = TestImage::new(vec![layer.clone()]);
    for ranges in [true, false] {
        let registry = Registry::start();
        let reference = registry.push("r", "t", &image);
        slow(&registry, &layer, ranges);
        let test = TestStore::new();
        test.pull(&reference).await.unwrap();
        let log = registry.log();
        let parts: Vec<_> = log.iter().filter_map(range).collect();
        if ranges {
            assert!(parts.len() >= 4, "{parts:?}");
            let mut begins: Vec<usize> = parts.iter().map(|(from, _)| *from).collect();
            begins.sort_unstable();
            begins.dedup();
            assert_eq!(begins.len(), parts.len(), "nothing is fetched twice: {parts:?}");
        } else {
            assert!(parts.is_empty(), "{parts:?}");
        }
        test.store.remove(&image.id()).await.unwrap();
        test.assert_empty();
    }
}
