//! Unpacks one layer: a hostile tar stream becomes a folder in overlayfs's own form.
//!
//! Nothing an entry says can reach outside the layer's folder: names are cleaned ([`path`]), parents are resolved
//! by openat2(2) beneath it ([`dirs`]), and what an entry replaces is removed by its open parent ([`create`]).
//! Whiteouts become character devices 0:0 and opaque marks become attributes ([`whiteout`]); both hold for lower
//! layers only, so an entry of the same layer wins, whichever comes first (OCI image-spec, layer.md).

mod content;
mod create;
mod dirs;
mod error;
mod frame;
mod meta;
mod path;
mod tap;
#[cfg(test)]
mod tests;
mod whiteout;

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::FileType;
use tar::EntryType;

pub use error::{EntryError, LayerError};
pub(crate) use frame::{FrameReader, Recorder, stream_length};

use content::PaxSparse;
use create::Node;
use dirs::{DirError, Dirs};
use meta::Meta;
use path::LayerPath;
use tap::{PaxRecords, TapControl};

/// What the content of a file takes of the disk comes in blocks of this size.
const DISK_BLOCK: u64 = 4096;
/// The most folders without an entry that are remembered.
const MAX_IMPLICIT: usize = 4096;
const BUFFER: usize = 64 << 10;
/// The most entries of a layer: more would exhaust the inodes of most disks.
const MAX_ENTRIES: u64 = 8 << 20;

/// What was unpacked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of the disk, in whole blocks.
    pub(crate) bytes: u64,
    /// Files, folders and everything else that takes an inode.
    pub(crate) inodes: u64,
    /// Mode, owner and group of the root, if the layer has an entry for it.
    pub(crate) root: Option<RootAttributes>,
    /// The layer hides everything below it. Overlayfs does not look for that mark on a root.
    pub(crate) opaque_root: bool,
    /// Folders that the layer has no entry for.
    pub(crate) implicit: Vec<String>,
    /// The layer's stream can be made again from its frame.
    pub(crate) framed: bool,
}

/// Mode, owner and group of an image's root folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct RootAttributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Unpacks the tar stream `from` into the empty folder `root`, up to `limit` bytes of stream and of content, and
/// reads the stream to its end. A frame goes to `recorder`, of which only a whole one is good for anything.
///
/// # Errors
/// What is wrong with the layer; the folder then holds a part of it.
pub(crate) fn unpack<R: Read>(
    from: R,
    root: BorrowedFd<'_>,
    limit: u64,
    recorder: Option<Recorder>,
) -> Result<Unpacked, LayerError> {
    let (tap, control) = tap::tap(from, limit, recorder);
    let mut archive = tar::Archive::new(tap);
    let mut unpacker = Unpacker::new(root, limit);
    let result = unpacker.all(&mut archive, &control);
    let result = result.and_then(|()| drain(&mut archive.into_inner()).map_err(|error| stream_error(&error)));
    if control.too_large() {
        return Err(LayerError::TooLarge { limit });
    }
    result?;
    // What an entry replaced is lost, and with it the stream.
    let recorder = control.take_recorder().filter(|_| !unpacker.dirs.replaced);
    let mut unpacked = unpacker.finish()?;
    if let Some(recorder) = recorder {
        let length = recorder.finish().map_err(|source| LayerError::System {
            name: "frame".to_owned(),
            verb: "write",
            source,
        })?;
        unpacked.framed = true;
        unpacked.bytes += length.next_multiple_of(DISK_BLOCK);
        unpacked.inodes += 1;
    }
    Ok(unpacked)
}

fn drain(from: &mut impl Read) -> io::Result<()> {
    io::copy(from, &mut io::sink()).map(|_| ())
}

fn stream_error(error: &io::Error) -> LayerError {
    LayerError::Format(error.to_string())
}

struct Unpacker<'a> {
    dirs: Dirs<'a>,
    limit: u64,
    logical: u64,
    done: Unpacked,
    folder_times: Vec<(LayerPath, Meta)>,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    fn new(root: BorrowedFd<'a>, limit: u64) -> Unpacker<'a> {
        Unpacker {
            dirs: Dirs::new(root),
            limit,
            logical: 0,
            done: Unpacked {
                inodes: 1,
                bytes: DISK_BLOCK,
                ..Unpacked::default()
            },
            folder_times: Vec::new(),
            buffer: vec![0; BUFFER],
        }
    }

    fn all<R: Read>(
        &mut self,
        archive: &mut tar::Archive<R>,
        control: &TapControl,
    ) -> Result<(), LayerError> {
        let mut entries = archive.entries().map_err(|error| stream_error(&error))?;
        for count in 0.. {
            if count == MAX_ENTRIES {
                return Err(LayerError::TooManyEntries { limit: MAX_ENTRIES });
            }
            control.begin_header();
            let next = entries.next();
            control.end_header();
            let Some(next) = next else { break };
            let mut entry = next.map_err(|error| stream_error(&error))?;
            let name = entry.path_bytes().into_owned();
            self.entry(&mut entry, control)
                .map_err(|error| self.named(&name, error))?;
            // The crate must find the next header where it expects it, whatever was left unread.
            drain(&mut entry).map_err(|error| stream_error(&error))?;
        }
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        control: &TapControl,
    ) -> Result<(), DirError> {
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            return Ok(());
        }
        let pax = control.pax_records()?;
        if pax.number("size")?.is_some_and(|size| size != entry.size()) {
            return Err(EntryError::BadField("size").into());
        }
        let raw = match pax.get("GNU.sparse.name").or_else(|| pax.get("path")) {
            Some(name) => name.to_vec(),
            None => entry.path_bytes().into_owned(),
        };
        let path = LayerPath::clean(&raw)?;
        if let Some(whiteout) = whiteout::Whiteout::of(&path)? {
            return self.whiteout(&path, &whiteout);
        }
        let meta = Meta::read(entry.header(), &pax)?;
        let mut kind = entry.header().entry_type();
        if kind == EntryType::Regular && raw.ends_with(b"/") {
            kind = EntryType::Directory;
        }
        if path.is_root() && kind != EntryType::Directory {
            return Err(EntryError::RootNotFolder.into());
        }
        self.object(entry, kind, &path, meta, &pax, control)
    }

    fn object<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        kind: EntryType,
        path: &LayerPath,
        meta: Meta,
        pax: &PaxRecords,
        control: &TapControl,
    ) -> Result<(), DirError> {
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, kind, path, &meta, pax, control)?;
            }
            EntryType::Directory => return self.folder(path, meta),
            EntryType::Symlink => {
                let target = link_target(entry, pax)?;
                create::node(&mut self.dirs, path, &meta, &Node::Symlink(&target))?;
            }
            EntryType::Link => {
                // One more name takes no inode.
                return create::hard_link(&mut self.dirs, path, &link_target(entry, pax)?);
            }
            EntryType::Char => self.special(entry, path, &meta, FileType::CharacterDevice)?,
            EntryType::Block => self.special(entry, path, &meta, FileType::BlockDevice)?,
            EntryType::Fifo => self.special(entry, path, &meta, FileType::Fifo)?,
            other => return Err(EntryError::UnknownType(char::from(other.as_byte())).into()),
        }
        self.done.inodes += 1;
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        kind: EntryType,
        path: &LayerPath,
        meta: &Meta,
        pax: &PaxRecords,
        control: &TapControl,
    ) -> Result<(), DirError> {
        let sparse = PaxSparse::of(pax);
        let size = sparse.map_or(Ok(entry.size()), |sparse| sparse.real_size(pax))?;
        self.logical = self.logical.saturating_add(size);
        if self.logical > self.limit {
            return Err(DirError::TooLarge);
        }
        let buffer = &mut self.buffer;
        let stored = create::file(&mut self.dirs, path, meta, |file| match (sparse, kind) {
            (Some(sparse), _) => sparse.write(pax, entry, file, buffer),
            (None, EntryType::GNUSparse) => content::with_holes(entry, file, buffer),
            (None, _) => {
                if size > 0 {
                    control.begin_content(path, size);
                }
                let count = content::plain(entry, file, buffer)?;
                control.end_content();
                let whole = if count == size {
                    Ok(count)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
                whole.map_err(DirError::Stream)
            }
        })?;
        self.done.bytes += stored.next_multiple_of(DISK_BLOCK);
        Ok(())
    }

    fn folder(&mut self, path: &LayerPath, meta: Meta) -> Result<(), DirError> {
        // A folder made on the way was not counted yet.
        let named_late = self.dirs.implicit.remove(path.as_bytes());
        if create::folder(&mut self.dirs, path, &meta)? || named_late {
            self.done.inodes += 1;
            self.done.bytes += DISK_BLOCK;
        }
        if path.is_root() {
            self.done.root = Some(RootAttributes {
                mode: meta.mode,
                uid: meta.uid,
                gid: meta.gid,
            });
        }
        self.folder_times.push((path.clone(), meta));
        Ok(())
    }

    fn special<R: Read>(
        &mut self,
        entry: &tar::Entry<'_, R>,
        path: &LayerPath,
        meta: &Meta,
        kind: FileType,
    ) -> Result<(), DirError> {
        let number = |field: io::Result<Option<u32>>| match (field, kind) {
            (_, FileType::Fifo) | (Ok(None), _) => Ok(0),
            (Ok(Some(number)), _) => Ok(number),
            (Err(_), _) => Err(EntryError::BadField("device number")),
        };
        let major = number(entry.header().device_major())?;
        let minor = number(entry.header().device_minor())?;
        let node = Node::Special(kind, rustix::fs::makedev(major, minor));
        create::node(&mut self.dirs, path, meta, &node)
    }

    fn whiteout(&mut self, path: &LayerPath, whiteout: &whiteout::Whiteout<'_>) -> Result<(), DirError> {
        if matches!(whiteout, whiteout::Whiteout::Opaque) && path.parent().is_empty() {
            self.done.opaque_root = true;
            return Ok(());
        }
        if whiteout.apply(&mut self.dirs, path)? {
            self.done.inodes += 1;
        }
        Ok(())
    }

    /// Gives the folders their times, now that nothing more is made in them.
    fn finish(mut self) -> Result<Unpacked, LayerError> {
        for (path, meta) in std::mem::take(&mut self.folder_times) {
            let set = match path.is_root() {
                true => self
                    .dirs
                    .open(b"")
                    .and_then(|root| meta.times_to_fd(root.as_fd())),
                // A later entry may have put something else in its place.
                false => match self.dirs.open_existing(path.as_bytes()) {
                    Ok(folder) => meta.times_to_fd(folder.as_fd()),
                    Err(_) => Ok(()),
                },
            };
            set.map_err(|error| self.named(path.as_bytes(), error))?;
        }
        for path in std::mem::take(&mut self.dirs.implicit) {
            if self.dirs.open_existing(&path).is_ok() {
                self.done.inodes += 1;
                self.done.bytes += DISK_BLOCK;
                // A name that is no text, or one too many, is not kept: its folder stays as it is.
                if self.done.implicit.len() < MAX_IMPLICIT {
                    self.done.implicit.extend(String::from_utf8(path));
                }
            }
        }
        Ok(self.done)
    }

    fn named(&self, name: &[u8], error: DirError) -> LayerError {
        let name = String::from_utf8_lossy(name.get(..256).unwrap_or(name)).into_owned();
        match error {
            DirError::Entry(reason) => LayerError::Entry { name, reason },
            DirError::System(verb, errno) => LayerError::System {
                name,
                verb,
                source: errno.into(),
            },
            DirError::Write(source) => LayerError::System {
                name,
                verb: "write",
                source,
            },
            DirError::TooLarge => LayerError::TooLarge { limit: self.limit },
            DirError::Stream(error) => stream_error(&error),
        }
    }
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>, pax: &PaxRecords) -> Result<Vec<u8>, EntryError> {
    let target = match pax.get("linkpath") {
        Some(target) => target.to_vec(),
        None => entry
            .link_name_bytes()
            .ok_or(EntryError::NoLinkTarget)?
            .into_owned(),
    };
    match target.as_slice() {
        [] => Err(EntryError::NoLinkTarget),
        target if target.contains(&0) => Err(EntryError::NulByte),
        _ => Ok(target),
    }
}
