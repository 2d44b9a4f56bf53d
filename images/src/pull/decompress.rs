//! Recognises a layer's compression by its first bytes and undoes it.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use crate::unpack::LayerError;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame that holds no content, as zstd:chunked begins with none and ends with some (RFC 8878 section 3.1.2).
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2: [u8; 3] = *b"BZh";
/// The largest window that is allowed: 128 MiB is what the zstd program allows at most without being told.
const MAX_WINDOW_LOG: u32 = 27;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    None,
}

impl Compression {
    /// What a stream is that begins like this. Media types are not asked: they are often wrong, and the diff id
    /// decides in the end.
    pub(super) fn of(start: &[u8]) -> Result<Compression, LayerError> {
        let skippable = start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == ZSTD_SKIPPABLE;
        match start {
            start if start.starts_with(&GZIP) => Ok(Compression::Gzip),
            start if start.starts_with(&ZSTD) || skippable => Ok(Compression::Zstd),
            start if start.starts_with(&XZ) => Err(LayerError::UnknownCompression("xz")),
            start if start.starts_with(&BZIP2) => Err(LayerError::UnknownCompression("bzip2")),
            _ => Ok(Compression::None),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::None => "plain",
        }
    }

    /// A reader of the plain bytes.
    pub(super) fn reader<'a, R: BufRead + 'a>(self, from: R) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Compression::Gzip => Box::new(MultiGzDecoder::new(from)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Compression::None => Box::new(from),
        })
    }
}
