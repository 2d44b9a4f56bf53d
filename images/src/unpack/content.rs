//! Writes the content of regular files: plain, sparse as GNU tar writes it, and sparse as PAX writes it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;

use rustix::fs::Advice;

use super::dirs::DirError;
use super::error::EntryError;
use super::tap::PaxRecords;

const BLOCK: usize = 512;
/// Where holes are looked for: a page of most file systems.
const HOLE: usize = 4096;
/// So many bytes are worth being written to the disk at once; a small file waits for syncfs(2) with all others.
const EARLY: u64 = 1 << 20;
/// The most pieces a sparse file may have.
const MAX_PIECES: usize = 1 << 20;

fn read(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, DirError> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(DirError::Stream),
        }
    }
}

/// Copies content as it is; gives back its length.
pub(super) fn plain(from: &mut impl Read, file: &mut File, buffer: &mut [u8]) -> Result<u64, DirError> {
    let (mut total, mut begun) = (0, 0);
    loop {
        let count = read(from, buffer)?;
        if count == 0 {
            return Ok(total);
        }
        file.write_all(&buffer[..count]).map_err(DirError::Write)?;
        total += count as u64;
        if total - begun >= EARLY {
            begin_writing(file, begun, total - begun);
            begun = total;
        }
    }
}

/// Has the disk begin with what was written, so that it has little left to do once the last layer is unpacked, and
/// nothing waits for it meanwhile. Of the calls that do so this is the one that needs no unsafe code; it also drops
/// pages that are on disk already, which these aren't yet.
fn begin_writing(file: &File, begin: u64, length: u64) {
    // Advice: where it isn't taken, syncfs(2) has more to do.
    let _ = rustix::fs::fadvise(file, begin, NonZeroU64::new(length), Advice::DontNeed);
}

/// Copies content and leaves holes where it is zero; gives back how much it stored.
pub(super) fn with_holes(from: &mut impl Read, file: &mut File, buffer: &mut [u8]) -> Result<u64, DirError> {
    let (mut total, mut stored) = (0_u64, 0_u64);
    loop {
        let count = read(from, &mut *buffer)?;
        if count == 0 {
            file.set_len(total).map_err(DirError::Write)?;
            return Ok(stored);
        }
        for piece in buffer[..count].chunks(HOLE) {
            if piece.iter().any(|&byte| byte != 0) {
                file.seek(SeekFrom::Start(total)).map_err(DirError::Write)?;
                file.write_all(piece).map_err(DirError::Write)?;
                stored += piece.len() as u64;
            }
            total += piece.len() as u64;
        }
    }
}

/// Which form of PAX sparse file an entry is (GNU tar manual, "Storing Sparse Files").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaxSparse {
    /// 0.0 and 0.1: the map is in the records.
    InRecords,
    /// 1.0: the map comes before the content.
    InContent,
}

impl PaxSparse {
    /// `None` if the entry is no sparse file.
    pub(super) fn of(pax: &PaxRecords) -> Option<PaxSparse> {
        if pax.get("GNU.sparse.major") == Some(b"1") {
            return Some(PaxSparse::InContent);
        }
        let map = pax.get("GNU.sparse.map").is_some() || pax.get("GNU.sparse.numblocks").is_some();
        map.then_some(PaxSparse::InRecords)
    }

    /// The length of the file with its holes.
    pub(super) fn real_size(self, pax: &PaxRecords) -> Result<u64, EntryError> {
        let size = match self {
            PaxSparse::InContent => pax.number("GNU.sparse.realsize")?,
            PaxSparse::InRecords => pax.number("GNU.sparse.size")?,
        };
        size.ok_or(EntryError::BadSparseMap)
    }

    /// Writes the pieces to their places; gives back how much it stored.
    pub(super) fn write(
        self,
        pax: &PaxRecords,
        from: &mut impl Read,
        file: &mut File,
        buffer: &mut [u8],
    ) -> Result<u64, DirError> {
        let pieces = match self {
            PaxSparse::InContent => map_in_content(from)?,
            PaxSparse::InRecords => map_in_records(pax)?,
        };
        let size = self.real_size(pax)?;
        let mut stored = 0;
        let mut end = 0;
        for (offset, length) in pieces {
            let next = offset
                .checked_add(length)
                .filter(|&next| offset >= end && next <= size);
            end = next.ok_or(EntryError::BadSparseMap)?;
            file.seek(SeekFrom::Start(offset)).map_err(DirError::Write)?;
            let copied = plain(&mut from.take(length), file, buffer)?;
            if copied != length {
                return Err(EntryError::BadSparseMap.into());
            }
            stored += length;
        }
        file.set_len(size).map_err(DirError::Write)?;
        Ok(stored)
    }
}

fn number(text: &[u8]) -> Result<u64, EntryError> {
    let text = std::str::from_utf8(text).map_err(|_| EntryError::BadSparseMap)?;
    text.parse().map_err(|_| EntryError::BadSparseMap)
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, EntryError> {
    if !numbers.len().is_multiple_of(2) {
        return Err(EntryError::BadSparseMap);
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// `COUNT\n(OFFSET\nLENGTH\n)*`, filled up to a whole block.
fn map_in_content(from: &mut impl Read) -> Result<Vec<(u64, u64)>, DirError> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut digits: Vec<u8> = Vec::new();
    let mut wanted = 1;
    while numbers.len() < wanted {
        let mut block = [0; BLOCK];
        from.read_exact(&mut block)
            .map_err(|_| EntryError::BadSparseMap)?;
        for &byte in &block {
            if numbers.len() == wanted {
                break;
            }
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(EntryError::BadSparseMap.into());
                }
                continue;
            }
            numbers.push(number(&digits)?);
            digits.clear();
            if numbers.len() == 1 {
                let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                if count > MAX_PIECES {
                    return Err(EntryError::BadSparseMap.into());
                }
                wanted = 1 + 2 * count;
            }
        }
    }
    Ok(pairs(&numbers[1..])?)
}

/// 0.1: `GNU.sparse.map=OFFSET,LENGTH,…`; 0.0: an offset and a numbytes record for each piece.
fn map_in_records(pax: &PaxRecords) -> Result<Vec<(u64, u64)>, EntryError> {
    let numbers: Result<Vec<u64>, EntryError> = match pax.get("GNU.sparse.map") {
        Some(map) => map.split(|&byte| byte == b',').map(number).collect(),
        None => {
            let piece = |key: &[u8]| matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
            pax.iter()
                .filter(|(key, _)| piece(key))
                .map(|(_, value)| number(value))
                .collect()
        }
    };
    pairs(&numbers?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Vec<u8> {
        let mut block = text.as_bytes().to_vec();
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        block
    }

    #[test]
    fn maps_before_the_content() {
        let mut from = &block("2\n0\n3\n4096\n5\n")[..];
        assert_eq!(map_in_content(&mut from).unwrap(), [(0, 3), (4096, 5)]);
        for bad in ["2\n0\n", "x\n", "99999999999\n", "1\n1\n999999999999999999999\n"] {
            assert!(map_in_content(&mut &block(bad)[..]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn maps_in_records() {
        let pax = PaxRecords::parse(b"29 GNU.sparse.map=0,3,4096,5\n").unwrap();
        assert_eq!(map_in_records(&pax).unwrap(), [(0, 3), (4096, 5)]);
        let odd = PaxRecords::parse(b"20 GNU.sparse.map=0\n").unwrap();
        assert_eq!(map_in_records(&odd), Err(EntryError::BadSparseMap));
    }
}
