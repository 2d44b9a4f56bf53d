//! Gives layers back as the streams that they were unpacked from.

use std::io::{self, Read};
use std::sync::Arc;

use super::{Inner, Lease, Store, lookup};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, IoContext as _, Result};
use crate::image::Image;
use crate::manifest::{self, ImageManifest, Manifest};
use crate::unpack::{FrameReader, stream_length};

/// An image with everything that is needed to pass it on; holds its layers.
pub(crate) struct Whole {
    pub(crate) image: Arc<Image>,
    pub(crate) manifest: ImageManifest,
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) config_digest: Digest,
    pub(crate) config_bytes: Vec<u8>,
    _leases: Vec<Lease>,
}

/// A layer's stream, which fails at its end if it is not what the layer's diff id says.
pub(crate) struct LayerStream {
    from: FrameReader,
    hasher: Hasher,
    diff_id: Digest,
    checked: bool,
}

impl Store {
    /// Takes an image up for passing it on. Blocking.
    pub(crate) fn whole(&self, key: &str) -> Result<Whole> {
        let missing = || Error::NoSuchImage { key: key.to_owned() };
        let (image, record) = {
            let state = self.inner.state();
            let id = lookup::find(&state, key)?.ok_or_else(missing)?;
            let entry = state.images.get(&id).ok_or_else(missing)?;
            (Arc::clone(&entry.image), entry.record.clone())
        };
        let leases = record.layers.iter().map(|id| Lease::take(&self.inner, id));
        let leases = leases.collect::<Option<_>>().ok_or_else(missing)?;
        let content =
            |digest: &Digest| -> Result<Vec<u8>> { self.inner.records.content(digest)?.ok_or_else(missing) };
        let manifest_bytes = content(&record.manifest)?;
        let Manifest::Image(manifest) = manifest::parse(&manifest_bytes, &record.manifest, "")? else {
            return Err(missing());
        };
        Ok(Whole {
            config_bytes: content(&record.id)?,
            config_digest: record.id,
            image,
            manifest: *manifest,
            manifest_bytes,
            _leases: leases,
        })
    }
}

impl Inner {
    /// The tar stream that a layer was unpacked from. Whoever calls holds the layer.
    pub(crate) fn layer_stream(&self, diff_id: &Digest) -> Result<LayerStream> {
        self.check_framed(diff_id)?;
        let (frame, root) = (self.frame_path(diff_id), self.layer_path(diff_id));
        Ok(LayerStream {
            from: FrameReader::open(&frame, &root).at("open", &frame)?,
            hasher: Hasher::default(),
            diff_id: *diff_id,
            checked: false,
        })
    }

    /// The length of that stream.
    pub(crate) fn layer_length(&self, diff_id: &Digest) -> Result<u64> {
        self.check_framed(diff_id)?;
        let frame = self.frame_path(diff_id);
        stream_length(&frame, &self.layer_path(diff_id)).at("read", &frame)
    }

    fn check_framed(&self, diff_id: &Digest) -> Result<()> {
        let framed = self
            .state()
            .layers
            .get(diff_id)
            .is_some_and(|layer| layer.record.framed);
        if framed {
            return Ok(());
        }
        Err(Error::LayerUnavailable {
            diff_id: *diff_id,
            reason: "its tar stream can't be made again, since some entries of it replaced others".to_owned(),
        })
    }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() && !self.checked {
            let found = std::mem::take(&mut self.hasher).finish();
            if found != self.diff_id {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "what is on disk is not what was unpacked",
                ));
            }
            self.checked = true;
        }
        Ok(count)
    }
}
