//! The doors for `fuzz/`: each takes bytes as they may come from outside, and must come back whatever they are.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use crate::digest::Digest;
use crate::manifest::{self, Manifest};
use crate::reference::Reference;
use crate::registry;
use crate::unpack;

/// The most that a fuzzed layer may unpack to.
const LIMIT: u64 = 1 << 20;

/// A reference; what was parsed must be shown so that it is parsed the same again.
///
/// # Panics
/// When it is not.
pub fn reference(text: &str) {
    if let Ok(parsed) = Reference::parse(text) {
        let shown = parsed.to_string();
        let again = Reference::parse(&shown).ok().map(|again| again.to_string());
        assert_eq!(again, Some(shown), "of {text:?}");
    }
}

/// A manifest or index, and the choice among its entries.
pub fn manifest(bytes: &[u8]) {
    let digest = Digest::of(bytes);
    match manifest::parse(bytes, &digest, "") {
        Ok(Manifest::Index(manifests)) => drop(manifest::choose(manifests)),
        Ok(Manifest::Image(image)) => {
            drop(image.config.digest(&digest));
            image.layers.iter().for_each(|layer| drop(layer.digest(&digest)));
        }
        Err(_) => {}
    }
}

/// A layer, unpacked into the empty folder `root`; nothing may happen outside of it. With a frame: what was framed must
/// come back as it was.
///
/// # Panics
/// When it does not.
pub fn layer(bytes: &[u8], root: &Path, frame: &Path) {
    let (Ok(folder), Ok(recorder)) = (File::open(root), unpack::Recorder::create(frame)) else {
        return;
    };
    let unpacked = unpack::unpack(bytes, folder.as_fd(), LIMIT, Some(recorder));
    if unpacked.is_ok_and(|unpacked| unpacked.framed) {
        let mut again = Vec::new();
        let read = unpack::FrameReader::open(frame, root)
            .and_then(|mut reader| std::io::Read::read_to_end(&mut reader, &mut again));
        assert!(
            read.is_ok() && again == bytes,
            "a frame gives back what it was made of"
        );
    }
}

/// A `hosts.toml`.
pub fn hosts(text: &str) {
    registry::fuzz_hosts(text);
}
