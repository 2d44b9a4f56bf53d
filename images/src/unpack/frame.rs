//! What a layer's tar stream holds besides the content of its files, so that the very same stream can be made again.
//!
//! Unpacked files alone don't say in which order and with which headers they came. A frame keeps these bytes, and a
//! note in the place of each file's content. For most images it takes less than a hundredth of the layer.
//!
//! ```text
//! zstd( MAGIC, then pieces:  0 LENGTH(4) BYTES   bytes of the stream
//!                            1 SIZE(8) LENGTH(4) PATH   the content of this file, beneath the layer's folder )
//! ```

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::dirs;

const MAGIC: &[u8] = b"pintle frame 1\n";
const RAW: u8 = 0;
const FILE: u8 = 1;
/// The longest piece of raw bytes.
const PIECE: usize = 64 << 10;
/// A path is no longer than the kernel allows.
const MAX_PATH: usize = 4096;
/// Headers repeat themselves within a few entries: a small window costs little memory and loses little.
const LEVEL: i32 = 1;
const WINDOW_LOG: u32 = 15;

/// Writes a frame while its layer is unpacked.
pub(crate) struct Recorder {
    to: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
    /// The first error; what follows it is not written.
    failed: Option<io::Error>,
}

impl Recorder {
    /// Begins a frame in a new file.
    pub(crate) fn create(path: &Path) -> io::Result<Recorder> {
        let file = File::options().write(true).create_new(true).open(path)?;
        let mut to = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL)?;
        to.window_log(WINDOW_LOG)?;
        to.write_all(MAGIC)?;
        Ok(Recorder {
            to,
            raw: Vec::with_capacity(PIECE),
            failed: None,
        })
    }

    /// Bytes of the stream that no file holds.
    pub(super) fn raw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(PIECE - self.raw.len()));
            self.raw.extend_from_slice(part);
            bytes = rest;
            if self.raw.len() == PIECE {
                self.flush();
            }
        }
    }

    /// From here on `size` bytes of the stream are the content of the file at `path`.
    pub(super) fn file(&mut self, path: &[u8], size: u64) {
        self.flush();
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
        self.write(&[&[FILE][..], &size.to_le_bytes(), &length.to_le_bytes(), path]);
    }

    fn flush(&mut self) {
        if self.raw.is_empty() {
            return;
        }
        let raw = std::mem::take(&mut self.raw);
        let length = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        self.write(&[&[RAW][..], &length.to_le_bytes(), &raw]);
        self.raw = raw;
        self.raw.clear();
    }

    fn write(&mut self, parts: &[&[u8]]) {
        if self.failed.is_none() {
            self.failed = parts.iter().try_for_each(|part| self.to.write_all(part)).err();
        }
    }

    /// Ends the frame; gives back its length on disk.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush();
        if let Some(error) = self.failed {
            return Err(error);
        }
        let file = self
            .to
            .finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(file.metadata()?.len())
    }
}

/// Gives a layer's tar stream back, from its frame and its folder.
pub(crate) struct FrameReader {
    from: zstd::stream::read::Decoder<'static, BufReader<File>>,
    root: File,
    piece: Piece,
}

enum Piece {
    /// So many bytes of the frame itself.
    Raw(u64),
    /// So many bytes of a file.
    Content(File, u64),
    End,
}

impl FrameReader {
    /// Opens a frame and the folder that its layer was unpacked to.
    pub(crate) fn open(frame: &Path, root: &Path) -> io::Result<FrameReader> {
        let mut from = zstd::stream::read::Decoder::new(File::open(frame)?)?;
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        Ok(FrameReader {
            from,
            root: File::open(root)?,
            piece: Piece::Raw(0),
        })
    }

    /// Goes on to the next piece.
    fn next(&mut self) -> io::Result<()> {
        let mut tag = [0];
        if self.from.read(&mut tag)? == 0 {
            self.piece = Piece::End;
            return Ok(());
        }
        self.piece = match tag[0] {
            RAW => Piece::Raw(u64::from(self.number()?)),
            FILE => {
                let mut size = [0; 8];
                self.from.read_exact(&mut size)?;
                let length = self.number()? as usize;
                if length > MAX_PATH {
                    return Err(damaged("a path is too long"));
                }
                let mut path = vec![0; length];
                self.from.read_exact(&mut path)?;
                Piece::Content(self.open_file(&path)?, u64::from_le_bytes(size))
            }
            _ => return Err(damaged("a piece is of no known kind")),
        };
        Ok(())
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut number = [0; 4];
        self.from.read_exact(&mut number)?;
        Ok(u32::from_le_bytes(number))
    }

    fn open_file(&self, path: &[u8]) -> io::Result<File> {
        // Should something else lie there by now, a fifo must not hold this up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(dirs::resolve(self.root.as_fd(), path, flags)?);
        if !file.metadata()?.is_file() {
            return Err(damaged("a file is none any more"));
        }
        Ok(file)
    }
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged frame: {reason}"))
}

impl Read for FrameReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (from, left): (&mut dyn Read, &mut u64) = match &mut self.piece {
                Piece::End => return Ok(0),
                Piece::Raw(0) | Piece::Content(_, 0) => {
                    self.next()?;
                    continue;
                }
                Piece::Raw(left) => (&mut self.from, left),
                Piece::Content(file, left) => (file, left),
            };
            let most = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            let count = from.read(&mut buffer[..most])?;
            if count == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a file or frame is too short",
                ));
            }
            *left -= count as u64;
            return Ok(count);
        }
    }
}

/// How long the stream is that a frame and its layer's folder make.
pub(crate) fn stream_length(frame: &Path, root: &Path) -> io::Result<u64> {
    let mut reader = FrameReader::open(frame, root)?;
    let mut total = 0;
    loop {
        match &mut reader.piece {
            Piece::End => return Ok(total),
            Piece::Raw(left) => {
                let count = io::copy(&mut (&mut reader.from).take(*left), &mut io::sink())?;
                if count != *left {
                    return Err(damaged("it is too short"));
                }
                total += count;
            }
            Piece::Content(_, size) => total += *size,
        }
        reader.next()?;
    }
}
