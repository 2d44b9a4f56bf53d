//! A checkpoint's files out of a tar archive: plain, as CRI-O writes it, or compressed, as Podman does.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tar::EntryType;

use super::bad;
use super::unpack::{save, wanted};
use crate::error::{IoContext as _, Result};

/// A tar ends with this many zeros.
const TRAILER: usize = 1024;
/// Each entry has one.
const HEADER: u64 = 512;
/// How compressed archives begin (RFC 8878, RFC 1952).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// A compressed archive may hold so many times its size: pages of memory compress well, but a few KiB are not to fill a disk.
const MOST_TIMES: u64 = 256;

/// Copies what is wanted of an archive into a folder.
///
/// # Errors
/// [`crate::Error::BadCheckpoint`] for one that is cut off, or not a checkpoint.
pub(super) fn from_archive(path: &Path, into: &Path) -> Result<()> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let mut file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .io("open checkpoint", path)?;
    let about = file.metadata().io("stat checkpoint", path)?;
    if !about.is_file() {
        return Err(bad("is not a file"));
    }
    let begin = beginning(&mut file).io("read checkpoint", path)?;
    let most = about.len().saturating_mul(MOST_TIMES);
    if begin == ZSTD {
        let plain = zstd::Decoder::new(file).io("read checkpoint", path)?;
        return take(Bounded(plain, most), most, into);
    }
    if begin.starts_with(&GZIP) {
        let plain = flate2::bufread::MultiGzDecoder::new(BufReader::new(file));
        return take(Bounded(plain, most), most, into);
    }
    check_end(&mut file, about.len()).io("read checkpoint", path)??;
    // without holes and compression nothing is larger than the archive that it is in
    take(BufReader::new(file), about.len(), into)
}

/// Takes files of at most `left` bytes together.
fn take(tar: impl Read, mut left: u64, into: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(tar);
    let mut files = 0;
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let name = entry.path().map_err(|error| broken(&error))?.into_owned();
        let Some((name, most)) = wanted(&name) else {
            continue;
        };
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            // a folder's own entry comes with some tools
            return Err(bad(format!("{} is not a plain file", name.display())));
        }
        let size = entry.size();
        left = left
            .checked_sub(size)
            .ok_or_else(|| bad(format!("{} is cut off", name.display())))?;
        files += 1;
        save(&into.join(&name), &name, &mut entry, size, most, files)?;
    }
    // a compressed one says at its end whether it is whole
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| broken(&error))?;
    Ok(())
}

fn beginning(file: &mut File) -> io::Result<[u8; 4]> {
    let mut begin = [0; 4];
    let mut had = 0;
    while had < begin.len() {
        match file.read(&mut begin[had..])? {
            0 => break,
            count => had += count,
        }
    }
    file.rewind()?;
    Ok(begin)
}

/// A tar that was cut off between two entries would look whole.
fn check_end(file: &mut File, length: u64) -> io::Result<Result<()>> {
    let mut end = [1; TRAILER];
    let cut = || {
        Ok(Err(bad(
            "is no whole tar archive: it is cut off, or of another form",
        )))
    };
    if length < HEADER + TRAILER as u64 {
        return cut();
    }
    file.seek(SeekFrom::End(-(TRAILER as i64)))?;
    file.read_exact(&mut end)?;
    file.rewind()?;
    if end.iter().any(|byte| *byte != 0) {
        return cut();
    }
    Ok(Ok(()))
}

/// What gives so many bytes and no more.
struct Bounded<R>(R, u64);

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(into)?;
        self.1 = self
            .1
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("holds far more than its size allows for"))?;
        Ok(count)
    }
}

fn broken(error: &io::Error) -> crate::error::Error {
    bad(error.to_string())
}

#[cfg(test)]
mod tests;
