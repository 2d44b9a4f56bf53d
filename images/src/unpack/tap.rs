//! A reader under the `tar` crate that bounds what one header may take and keeps the raw extension headers.
//!
//! The crate gathers extension headers (long names, PAX records) in memory without a limit and splits PAX
//! records at newlines, which breaks binary values such as capabilities. So while the crate reads a header, the
//! bytes are kept here, up to a limit, and the records are parsed again from them.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use super::error::EntryError;
use super::frame::Recorder;
use super::path::LayerPath;

/// The most that the headers of one entry may take.
const MAX_HEADERS: usize = 2 << 20;
const BLOCK: usize = 512;

#[derive(Default)]
struct Shared {
    position: Cell<u64>,
    in_header: Cell<bool>,
    header_at: Cell<u64>,
    headers: RefCell<Vec<u8>>,
    total_limit: Cell<u64>,
    too_large: Cell<bool>,
    /// What passes is the content of a file, which the recorder has a note of.
    in_content: Cell<bool>,
    recorder: RefCell<Option<Recorder>>,
}

/// The reading end that the `tar` crate gets.
pub(super) struct Tap<R> {
    inner: R,
    shared: Rc<Shared>,
}

/// The controlling end.
pub(super) struct TapControl(Rc<Shared>);

/// Makes both ends; the stream may hold at most `limit` bytes.
pub(super) fn tap<R: Read>(inner: R, limit: u64, recorder: Option<Recorder>) -> (Tap<R>, TapControl) {
    let shared = Rc::new(Shared {
        recorder: RefCell::new(recorder),
        ..Shared::default()
    });
    shared.total_limit.set(limit);
    (
        Tap {
            inner,
            shared: Rc::clone(&shared),
        },
        TapControl(shared),
    )
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let shared = &self.shared;
        let count = self.inner.read(buffer)?;
        let position = shared.position.get() + count as u64;
        shared.position.set(position);
        if position > shared.total_limit.get() {
            shared.too_large.set(true);
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        if !shared.in_content.get()
            && let Some(recorder) = shared.recorder.borrow_mut().as_mut()
        {
            recorder.raw(&buffer[..count]);
        }
        if shared.in_header.get() {
            let mut headers = shared.headers.borrow_mut();
            if headers.len() + count > MAX_HEADERS {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "an extended header is too long",
                ));
            }
            headers.extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}

impl TapControl {
    /// From here on what is read belongs to the next entry's headers.
    pub(super) fn begin_header(&self) {
        self.0.headers.borrow_mut().clear();
        self.0.header_at.set(self.0.position.get());
        self.0.in_header.set(true);
    }

    /// The headers are read; what follows is content.
    pub(super) fn end_header(&self) {
        self.0.in_header.set(false);
    }

    /// The next `size` bytes go to the file at `path` and to nowhere else.
    pub(super) fn begin_content(&self, path: &LayerPath, size: u64) {
        if let Some(recorder) = self.0.recorder.borrow_mut().as_mut() {
            recorder.file(path.as_bytes(), size);
            self.0.in_content.set(true);
        }
    }

    /// The content has passed.
    pub(super) fn end_content(&self) {
        self.0.in_content.set(false);
    }

    /// The frame, once everything has passed.
    pub(super) fn take_recorder(&self) -> Option<Recorder> {
        self.0.recorder.borrow_mut().take()
    }

    /// Whether the stream held more than allowed.
    pub(super) fn too_large(&self) -> bool {
        self.0.too_large.get()
    }

    /// The PAX records of the entry whose headers were read last.
    pub(super) fn pax_records(&self) -> Result<PaxRecords, EntryError> {
        let headers = self.0.headers.borrow();
        // The rest of the block in which the last entry's content ended comes first.
        let skip = (BLOCK - (self.0.header_at.get() % BLOCK as u64) as usize) % BLOCK;
        find_records(headers.get(skip..).unwrap_or_default())
    }
}

/// Walks the chain of extension headers in front of an entry to its PAX records.
fn find_records(mut headers: &[u8]) -> Result<PaxRecords, EntryError> {
    while let Some((header, rest)) = headers.split_at_checked(BLOCK) {
        let kind = header[156];
        if !matches!(kind, b'x' | b'L' | b'K') {
            break;
        }
        let mut parsed = tar::Header::new_old();
        parsed.as_mut_bytes().copy_from_slice(header);
        let size = parsed
            .entry_size()
            .ok()
            .and_then(|size| usize::try_from(size).ok());
        let data = size
            .and_then(|size| rest.get(..size))
            .ok_or(EntryError::BadExtendedHeader)?;
        if kind == b'x' {
            return PaxRecords::parse(data);
        }
        headers = rest.get(data.len().next_multiple_of(BLOCK)..).unwrap_or_default();
    }
    Ok(PaxRecords::default())
}

/// Key and value of every PAX record, in order.
#[derive(Debug, Default)]
pub(super) struct PaxRecords(Vec<(Vec<u8>, Vec<u8>)>);

impl PaxRecords {
    /// Parses `LENGTH KEY=VALUE\n` records, whose values may hold any byte (pax(1), extended header).
    pub(super) fn parse(mut data: &[u8]) -> Result<PaxRecords, EntryError> {
        let mut records = Vec::new();
        while !data.is_empty() && data[0] != 0 {
            let (key, value, rest) = next_record(data).ok_or(EntryError::BadExtendedHeader)?;
            records.push((key.to_vec(), value.to_vec()));
            data = rest;
        }
        Ok(PaxRecords(records))
    }

    /// The last value of `key`; an empty one means that it is not set.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let value = self
            .0
            .iter()
            .rev()
            .find(|(k, _)| k == key.as_bytes())
            .map(|(_, value)| value.as_slice());
        value.filter(|value| !value.is_empty())
    }

    /// All records in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The value of `key` as a decimal number.
    pub(super) fn number(&self, key: &'static str) -> Result<Option<u64>, EntryError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or(EntryError::BadField(key))
    }
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn next_record(data: &[u8]) -> Option<Record<'_>> {
    let space = data.iter().take(10).position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_hold_any_byte() {
        let records = PaxRecords::parse(b"12 path=a\nb\n27 SCHILY.xattr.user.x=\n=\0\n").unwrap();
        assert_eq!(records.get("path"), Some(&b"a\nb"[..]));
        assert_eq!(records.get("SCHILY.xattr.user.x"), Some(&b"\n=\0"[..]));
        assert_eq!(records.get("size"), None);
    }

    #[test]
    fn last_record_wins_and_padding_ends() {
        let records = PaxRecords::parse(b"9 uid=10\n9 uid=20\n\0\0\0").unwrap();
        assert_eq!(records.number("uid"), Ok(Some(20)));
    }

    #[test]
    fn refuses_broken_records() {
        for data in [
            &b"5 a=b"[..],
            b"x a=b\n",
            b"99 a=b\n",
            b"6 a=bc\n",
            b"5 abc\n",
            b"2 a=b\n",
            b"0 a=b\n",
        ] {
            assert_eq!(
                PaxRecords::parse(data).unwrap_err(),
                EntryError::BadExtendedHeader,
                "{data:?}"
            );
        }
        let records = PaxRecords::parse(b"9 uid=-1\n").unwrap();
        assert_eq!(records.number("uid"), Err(EntryError::BadField("uid")));
    }
}
