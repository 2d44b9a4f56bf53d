//! Reads container logs in CRI's format, strictly.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// RFC 3339 with nanoseconds, as written.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether the line goes on in the stream's next record.
    pub partial: bool,
    /// The line, without its end.
    pub content: String,
}

/// All records of a file. A torn or otherwise malformed record is an error.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    ensure!(
        text.is_empty() || text.ends_with('\n'),
        "{} ends in a torn record",
        path.display()
    );
    text.split_terminator('\n')
        .map(|line| parse(line).with_context(|| format!("record {line:?}")))
        .collect()
}

fn parse(line: &str) -> Result<Record> {
    let mut fields = line.splitn(4, ' ');
    let mut next = |what| fields.next().with_context(|| format!("no {what}"));
    let (time, stream, tags, content) = (next("time")?, next("stream")?, next("tags")?, next("content")?);
    check_time(time)?;
    ensure!(matches!(stream, "stdout" | "stderr"), "stream {stream:?}");
    let partial = match tags.split(':').next() {
        Some("P") => true,
        Some("F") => false,
        _ => bail!("tags {tags:?}"),
    };
    Ok(Record {
        time: time.to_owned(),
        stream: stream.to_owned(),
        partial,
        content: content.to_owned(),
    })
}

/// `2026-01-02T03:04:05.123456789Z`, or a numeric zone in place of the Z.
fn check_time(time: &str) -> Result<()> {
    let (date, rest) = time.split_once('T').context("no T in the time")?;
    let (clock, rest) = rest.split_once('.').context("no fraction of a second")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let zone = &rest[digits..];
    let numeric = |text: &str, separator| text.split(separator).all(|part| part.parse::<u32>().is_ok());
    ensure!(date.len() == 10 && numeric(date, '-'), "date {date:?}");
    ensure!(clock.len() == 8 && numeric(clock, ':'), "clock {clock:?}");
    ensure!((1..=9).contains(&digits), "fraction {rest:?}");
    ensure!(
        zone == "Z" || (zone.len() == 6 && zone.starts_with(['+', '-'])),
        "zone {zone:?}"
    );
    Ok(())
}

/// A stream's lines, partial records joined.
pub fn lines(records: &[Record], stream: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for record in records.iter().filter(|r| r.stream == stream) {
        match lines.last_mut() {
            Some(last) if open => last.push_str(&record.content),
            _ => lines.push(record.content.clone()),
        }
        open = record.partial;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_records_apart() {
        let record = parse("2026-01-02T03:04:05.000000001Z stderr P two words ").expect("a record");
        assert_eq!(
            (record.stream.as_str(), record.partial, record.content.as_str()),
            ("stderr", true, "two words ")
        );
    }

    #[test]
    fn refuses_torn_records() {
        for line in [
            "",
            "2026-01-02T03:04:05.1Z stdout F",
            "26-01-02T03:04:05.1Z stdout F x",
            "x stdout F y",
            "2026-01-02T03:04:05.1Z stdin F x",
            "2026-01-02T03:04:05.1Z stdout Q x",
            "2026-01-02T03:04:05.Z stdout F x",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn joins_partial_records_of_one_stream() {
        let record = |stream: &str, partial, content: &str| Record {
            time: String::new(),
            stream: stream.into(),
            partial,
            content: content.into(),
        };
        let all = [
            record("stdout", true, "a"),
            record("stderr", false, "x"),
            record("stdout", false, "b"),
        ];
        assert_eq!(lines(&all, "stdout"), ["ab"]);
    }
}
