//! A container's log: two streams into one file, a batch of records in one write.

use super::{Lines, LogFile, Stamp, Tag};
use crate::error::Result;
use crate::protocol::LogTarget;

/// Bytes of records after which a batch is written though its read isn't finished.
const BATCH: usize = 256 * 1024;

/// Which of a container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or all of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The buffer in which records are put together; one serves every log of a process.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<u8>,
    stamp: Stamp,
}

impl Batch {
    /// Gives the buffer's memory back.
    pub fn release(&mut self) {
        self.records = Vec::new();
    }
}

/// The log of one container.
#[derive(Debug)]
pub struct ContainerLog {
    /// None: the output is discarded.
    file: Option<LogFile>,
    stdout: Lines,
    stderr: Lines,
}

impl ContainerLog {
    /// Opens the file, or makes it; without a target everything is discarded.
    ///
    /// # Errors
    /// The file can't be opened, or isn't a regular file.
    pub fn open(target: Option<&LogTarget>, terminal: bool) -> Result<Self> {
        let max = target.map_or(super::DEFAULT_MAX_LINE, |t| t.max_line);
        Ok(Self {
            file: target.map(LogFile::open).transpose()?,
            stdout: Lines::new(max, terminal),
            stderr: Lines::new(max, terminal),
        })
    }

    /// Logs what was read from a stream at `now` (Unix nanoseconds). A disk that refuses costs records, which are
    /// counted, never time; the error is returned when that begins.
    pub fn write(
        &mut self,
        stream: Stream,
        data: &[u8],
        now: i64,
        batch: &mut Batch,
    ) -> Option<crate::Error> {
        let (mut out, lines) = self.split(stream, now, batch)?;
        lines.feed(data, |tag, head, tail| out.record(tag, head, tail));
        out.flush()
    }

    /// The stream has ended: logs the line that it ended in.
    pub fn finish(&mut self, stream: Stream, now: i64, batch: &mut Batch) -> Option<crate::Error> {
        let (mut out, lines) = self.split(stream, now, batch)?;
        lines.finish(|tag, head, tail| out.record(tag, head, tail));
        out.flush()
    }

    /// Opens the file anew; everything from now on goes there. Does nothing where the output is discarded.
    ///
    /// # Errors
    /// The new file can't be opened; the log goes on into the old one.
    pub fn reopen(&mut self) -> Result<()> {
        self.file.as_mut().map_or(Ok(()), LogFile::reopen)
    }

    fn split<'a>(
        &'a mut self,
        stream: Stream,
        now: i64,
        batch: &'a mut Batch,
    ) -> Option<(Out<'a>, &'a mut Lines)> {
        let file = self.file.as_mut()?;
        let (lines, name) = match stream {
            Stream::Stdout => (&mut self.stdout, b" stdout F "),
            Stream::Stderr => (&mut self.stderr, b" stderr F "),
        };
        let mut header = [0; HEADER];
        header[..Stamp::LEN].copy_from_slice(batch.stamp.format(now));
        header[Stamp::LEN..].copy_from_slice(name);
        batch.records.clear();
        Some((
            Out {
                header,
                records: &mut batch.records,
                file,
                now,
                error: None,
            },
            lines,
        ))
    }
}

const HEADER: usize = Stamp::LEN + 10;
const TAG: usize = HEADER - 2;

/// The records of one read on their way to the file.
struct Out<'a> {
    header: [u8; HEADER],
    records: &'a mut Vec<u8>,
    file: &'a mut LogFile,
    now: i64,
    error: Option<crate::Error>,
}

impl Out<'_> {
    fn record(&mut self, tag: Tag, head: &[u8], tail: &[u8]) {
        if self.records.len() + head.len() + tail.len() > BATCH {
            self.write();
        }
        self.header[TAG] = match tag {
            Tag::Partial => b'P',
            Tag::Full => b'F',
        };
        self.records.extend_from_slice(&self.header);
        if !head.is_empty() {
            self.records.extend_from_slice(head);
        }
        self.records.extend_from_slice(tail);
        self.records.push(b'\n');
    }

    fn write(&mut self) {
        if !self.records.is_empty() {
            let failed = self.file.write(self.records, self.now);
            self.error = self.error.take().or(failed);
            self.records.clear();
        }
    }

    fn flush(mut self) -> Option<crate::Error> {
        self.write();
        self.error
    }
}
