//! Reading and writing control files.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};

/// Writes a value with one write(2); control files take no partial ones.
pub(super) fn write(folder: &Path, name: &str, value: &str) -> Result<()> {
    let path = folder.join(name);
    let mut file = open_for_writing(&path).path("open", &path)?;
    file.write_all(value.as_bytes()).map_err(|e| Error::Write {
        path,
        value: value.to_owned(),
        errno: errno(&e),
    })
}

/// Like [`write`], but tells whether the file exists instead of failing if it doesn't.
pub(super) fn write_if_there(folder: &Path, name: &str, value: &str) -> Result<bool> {
    match write(folder, name, value) {
        Ok(()) => Ok(true),
        Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Writes several values, each with a write(2) of its own, to one open file.
pub(super) fn write_each(folder: &Path, name: &str, values: &[String]) -> Result<()> {
    let path = folder.join(name);
    let mut file = open_for_writing(&path).path("open", &path)?;
    for value in values {
        file.write_all(value.as_bytes()).map_err(|e| Error::Write {
            path: path.clone(),
            value: value.clone(),
            errno: errno(&e),
        })?;
    }
    Ok(())
}

/// The whole content, trimmed.
pub(super) fn read(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    let mut text = String::new();
    File::open(&path)
        .path("open", &path)?
        .read_to_string(&mut text)
        .path("read", &path)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// The number behind `key` in a file of `key number` lines.
pub(super) fn counter(folder: &Path, name: &str, key: &str) -> Option<u64> {
    let text = read(folder, name).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn open_for_writing(path: &Path) -> std::io::Result<File> {
    File::options()
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
