//! Finds the parts of an image archive without unpacking it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tar::EntryType;

use crate::error::{Error, Result};

/// More entries than any archive of images needs.
const MAX_ENTRIES: usize = 200_000;
/// How many links lead to a part at most.
const MAX_LINKS: usize = 8;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An archive in a file that can be read at any place.
pub(super) struct Archive {
    pub(super) file: Arc<File>,
    parts: BTreeMap<String, Part>,
}

enum Part {
    /// Where it begins, and how long it is.
    Bytes(u64, u64),
    /// Another name.
    Link(String),
}

pub(super) fn bad(reason: impl Into<String>) -> Error {
    Error::BadArchive {
        reason: reason.into(),
    }
}

fn broken(error: &io::Error) -> Error {
    bad(error.to_string())
}

impl Archive {
    /// Looks through an archive. A compressed one is decompressed into `spool` first.
    pub(super) fn open(mut file: File, spool: impl FnOnce() -> Result<File>) -> Result<Archive> {
        let mut start = [0; 4];
        let length = file.read_at(&mut start, 0).map_err(|error| broken(&error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| broken(&error))?;
        let spooled = match &start[..length] {
            start if start.starts_with(&GZIP) => {
                Some(spooled(flate2::read::MultiGzDecoder::new(&file), spool)?)
            }
            start if start.starts_with(&ZSTD) => {
                let decoder = zstd::Decoder::new(&file).map_err(|error| broken(&error))?;
                Some(spooled(decoder, spool)?)
            }
            _ => None,
        };
        let file = spooled.unwrap_or(file);
        let parts = find_parts(&file)?;
        Ok(Archive {
            file: Arc::new(file),
            parts,
        })
    }

    /// Where a part begins, and how long it is.
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = name.to_owned();
        for _ in 0..MAX_LINKS {
            match self.parts.get(&name)? {
                Part::Bytes(begin, size) => return Some((*begin, *size)),
                Part::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// A part that fits in memory.
    pub(super) fn small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some((begin, size)) = self.find(name) else {
            return Ok(None);
        };
        if size > limit {
            return Err(bad(format!("{name:?} is too large")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.file
            .read_exact_at(&mut bytes, begin)
            .map_err(|error| broken(&error))?;
        Ok(Some(bytes))
    }

    /// A part that is JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str, limit: u64) -> Result<Option<T>> {
        let Some(bytes) = self.small(name, limit)? else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Some)
            .map_err(|error| bad(format!("{name:?}: {error}")))
    }

    /// A reader of a part.
    pub(super) fn reader(&self, begin: u64, size: u64) -> impl Read + '_ {
        PartReader {
            file: &self.file,
            at: begin,
            left: size,
        }
    }
}

fn spooled(mut from: impl Read, spool: impl FnOnce() -> Result<File>) -> Result<File> {
    let mut plain = spool()?;
    io::copy(&mut from, &mut plain).map_err(|error| broken(&error))?;
    plain.seek(SeekFrom::Start(0)).map_err(|error| broken(&error))?;
    Ok(plain)
}

struct PartReader<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn find_parts(file: &File) -> Result<BTreeMap<String, Part>> {
    let mut parts = BTreeMap::new();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let entries = archive.entries_with_seek().map_err(|error| broken(&error))?;
    for entry in entries {
        let entry = entry.map_err(|error| broken(&error))?;
        if parts.len() == MAX_ENTRIES {
            return Err(bad("it has too many entries"));
        }
        let Some(name) = clean(&entry.path_bytes()) else {
            continue;
        };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                parts.insert(name, Part::Bytes(entry.raw_file_position(), entry.size()));
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes();
                let is_symlink = entry.header().entry_type() == EntryType::Symlink;
                if let Some(target) = target.and_then(|target| resolve(&name, &target, is_symlink)) {
                    parts.insert(name, Part::Link(target));
                }
            }
            _ => {}
        }
    }
    Ok(parts)
}

/// A name without `.` and empty components; `None` for one that is no text or goes up.
fn clean(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let fine = !parts.is_empty() && !parts.contains(&"..");
    fine.then(|| parts.join("/"))
}

/// What a link means; symbolic ones count from their own folder.
fn resolve(name: &str, target: &[u8], is_symlink: bool) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    if is_symlink {
        parts.extend(name.split('/'));
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_links_stay_inside() {
        assert_eq!(clean(b"./a//b").as_deref(), Some("a/b"));
        assert_eq!(clean(b"../a"), None);
        assert_eq!(clean(b"./"), None);
        assert_eq!(
            resolve("x/layer.tar", b"../y/layer.tar", true).as_deref(),
            Some("y/layer.tar")
        );
        assert_eq!(
            resolve("x/layer.tar", b"y/layer.tar", false).as_deref(),
            Some("y/layer.tar")
        );
        assert_eq!(resolve("x", b"../../etc/passwd", true), None);
        assert_eq!(resolve("x", b"/etc/passwd", true), None);
    }
}
