//! What is told to people and to callers: `--log`, `--log-format`, `--debug`.
//!
//! Errors go into the log and to standard error; without `--log` the log is standard error itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Context, Error, Result};
use crate::log::{Stamp, now};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    format: Format,
    with_debug: bool,
}

impl Log {
    /// A log on standard error.
    pub(super) fn plain() -> Self {
        Self {
            file: None,
            format: Format::Text,
            with_debug: false,
        }
    }

    /// The log that the flags ask for.
    pub(super) fn open(path: Option<&str>, format: Option<&str>, with_debug: bool) -> Result<Self> {
        let format = match format {
            None | Some("text" | "") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                return Err(Error::invalid(
                    "log-format",
                    format!("invalid log-format: {other}"),
                ));
            }
        };
        let path = path
            .filter(|p| !p.is_empty() && *p != "/dev/stderr")
            .map(PathBuf::from);
        Ok(Self {
            file: path.as_deref().map(append_to).transpose()?,
            format,
            with_debug,
        })
    }

    /// For whoever looks for a fault.
    pub(super) fn debug(&mut self, message: &str) {
        if self.with_debug {
            self.write("debug", message);
        }
    }

    /// For the operator.
    pub(super) fn warn(&mut self, message: &str) {
        self.write("warning", message);
    }

    /// The reason why the command failed.
    pub(super) fn error(&mut self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            // nothing is left to tell that this failed
            let _ = writeln!(io::stderr(), "{message}");
        }
    }

    fn write(&mut self, level: &str, message: &str) {
        let mut stamp = Stamp::default();
        let time = String::from_utf8_lossy(stamp.format(now())).into_owned();
        let seconds = format!("{}Z", time.get(..19).unwrap_or_default());
        let line = match self.format {
            Format::Text => format!("time=\"{seconds}\" level={level} msg={message:?}\n"),
            Format::Json => format!("{}\n", json!({"level": level, "msg": message, "time": seconds})),
        };
        // one write a line; a log that can't be written must not stop a container
        let _ = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .path("open log", path)
}
