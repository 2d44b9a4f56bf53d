//! The bytes that are carried: so irregular that a lost, doubled or displaced piece is noticed, and known at each place
//! without being kept whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};

/// After so many bytes they repeat: no multiple of any buffer's size.
const PERIOD: usize = 1_000_003;

/// The largest piece that is compared or sent at once.
pub(crate) const PIECE: usize = 64 << 10;

/// The bytes at any place.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// A period, and the first piece of the next.
    bytes: Arc<[u8]>,
    /// How many there are in all.
    pub(crate) length: u64,
}

impl Content {
    pub(crate) fn new(length: u64) -> Self {
        // Marsaglia's xorshift.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        bytes.extend_from_within(..PIECE);
        Self {
            bytes: bytes.into(),
            length,
        }
    }

    /// The bytes at a place: [`PIECE`] of them, or what is left; none at the end.
    pub(crate) fn at(&self, place: u64) -> &[u8] {
        let begin = usize::try_from(place % PERIOD as u64).unwrap_or(0);
        let left = usize::try_from(self.length.saturating_sub(place)).unwrap_or(PIECE);
        &self.bytes[begin..begin + PIECE.min(left)]
    }

    /// Writes all of it.
    pub(crate) fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut place = 0;
        while place < self.length {
            let piece = self.at(place);
            to.write_all(piece)?;
            place += piece.len() as u64;
        }
        to.flush()
    }

    /// Makes a file of it.
    pub(crate) fn store(&self, path: &Path) -> Result<()> {
        Ok(self.write(File::create(path)?)?)
    }
}

/// Compares what comes with what should.
#[derive(Debug)]
pub(crate) struct Check {
    content: Content,
    place: u64,
}

impl Check {
    pub(crate) fn new(content: &Content) -> Self {
        Self {
            content: content.clone(),
            place: 0,
        }
    }

    /// The next bytes have come.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let wanted = self.content.at(self.place);
            let (now, rest) = bytes.split_at(wanted.len().min(bytes.len()));
            ensure!(!now.is_empty(), "more than {} bytes have come", self.place);
            ensure!(now == &wanted[..now.len()], "other bytes behind {}", self.place);
            self.place += now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// No more comes.
    pub(crate) fn end(&self) -> Result<()> {
        ensure!(
            self.place == self.content.length,
            "{} of {} bytes have come",
            self.place,
            self.content.length
        );
        Ok(())
    }
}

/// Compares all that can be read with what should.
pub(crate) fn compare(content: &Content, mut from: impl io::Read) -> Result<()> {
    let (mut check, mut buffer) = (Check::new(content), vec![0; 4 * PIECE]);
    loop {
        match from.read(&mut buffer)? {
            0 => return check.end(),
            count => check.take(&buffer[..count])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_was_wanted_and_nothing_else() {
        let content = Content::new(3 * PERIOD as u64 + 5);
        let mut all = Vec::new();
        content.write(&mut all).unwrap();
        assert_eq!(all.len(), 3 * PERIOD + 5);
        compare(&content, &all[..]).unwrap();
        assert!(compare(&content, &all[1..]).is_err());
        assert!(compare(&content, &all[..all.len() - 1]).is_err());
        all.swap(PERIOD, PERIOD + 1);
        assert!(compare(&content, &all[..]).is_err());
    }
}
