//! The files of a checkpoint beside criu's own, and the archive of all of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use pintle_images::Snapshot;

use super::interest::Interest;
use super::metadata::{self, BindMount, ConfigDump};
use super::{BINDS, CONFIG, DELETED, DIFF, DUMP_LOG, IMAGES, LOG, SPEC, STATS, bad, diff};
use crate::container::ContainerRecord;
use crate::error::{IoContext as _, Result};

/// Archives hold every page of memory.
const MODE: u32 = 0o600;

/// What a container was made from, as its bundle has it.
pub(super) fn spec(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).io("read", &path)?;
    serde_json::from_slice(&text).map_err(|error| bad(format!("{}: {error}", path.display())))
}

/// Writes what must fit the dump, while the container stands still. Blocking.
pub(super) fn files(
    record: &ContainerRecord,
    mut spec: Spec,
    snapshot: &Snapshot,
    folder: &Path,
    interest: &Interest,
) -> Result<()> {
    let skipped: Vec<PathBuf> = spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| mount.destination().clone())
        .collect();
    let path = folder.join(DIFF);
    let file = interest.writer(create(&path)?);
    let deleted = diff::write(&snapshot.upper, &snapshot.lower, &skipped, file)?;
    if !deleted.is_empty() {
        metadata::write(&folder.join(DELETED), &deleted)?;
    }
    let binds: Vec<BindMount> = spec.mounts().iter().flatten().filter_map(bind).collect();
    if !binds.is_empty() {
        metadata::write(&folder.join(BINDS), &binds)?;
    }
    if !record.log_path.is_empty() && fs::metadata(&record.log_path).is_ok_and(|about| about.is_file()) {
        let mut log = File::open(&record.log_path).io("open", &record.log_path)?;
        let mut copy = interest.writer(create(&folder.join(LOG))?);
        io::copy(&mut log, &mut copy).io("copy", &record.log_path)?;
    }
    metadata::annotate(&mut spec, record)?;
    metadata::write(&folder.join(SPEC), &spec)?;
    metadata::write(&folder.join(CONFIG), &ConfigDump::of(record, crate::time::now()))
}

fn create(path: &Path) -> Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .io("create", path)
}

pub(super) fn is_bind(mount: &Mount) -> bool {
    let words = |o: &String| o == "bind" || o == "rbind";
    mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(words)
}

fn bind(mount: &Mount) -> Option<BindMount> {
    let source = mount.source().as_ref().filter(|_| is_bind(mount))?;
    let about = fs::metadata(source).ok()?;
    Some(BindMount {
        source: source.display().to_string(),
        destination: mount.destination().display().to_string(),
        file_type: if about.is_dir() { "directory" } else { "file" }.to_owned(),
        permissions: about.mode() & 0o777,
    })
}

/// Writes the archive: under another name first, so that it is whole where it appears. Blocking.
///
/// # Errors
/// Nothing is left then.
pub(super) fn archive(folder: &Path, to: &Path, interest: &Interest) -> Result<()> {
    let name = to
        .file_name()
        .ok_or_else(|| crate::error::Error::invalid("location", format!("{} names no file", to.display())))?;
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    let partial = to.with_file_name(partial);
    let _ = fs::remove_file(&partial); // of an attempt that was cut off
    let done = write(folder, &partial, interest).and_then(|()| fs::rename(&partial, to).io("rename to", to));
    if done.is_err() {
        let _ = fs::remove_file(&partial);
    }
    done
}

fn write(folder: &Path, to: &Path, interest: &Interest) -> Result<()> {
    let mut tar = tar::Builder::new(BufWriter::new(interest.writer(create(to)?)));
    for name in [CONFIG, SPEC, BINDS, LOG, DUMP_LOG, STATS, DIFF, DELETED] {
        let path = folder.join(name);
        if path.exists() {
            append(&mut tar, &path, name.as_ref())?;
        }
    }
    let images = folder.join(IMAGES);
    let mut names = Vec::new();
    for entry in fs::read_dir(&images).io("read folder", &images)? {
        names.push(entry.io("read folder", &images)?.file_name());
    }
    names.sort();
    for name in names {
        append(&mut tar, &images.join(&name), &Path::new(IMAGES).join(&name))?;
    }
    let done = tar.into_inner().and_then(|mut out| out.flush());
    done.io("write", to)
}

fn append(tar: &mut tar::Builder<impl Write>, path: &Path, name: &Path) -> Result<()> {
    let file = File::open(path).io("open", path)?;
    let about = file.metadata().io("stat", path)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(about.mtime()).unwrap_or(0));
    header.set_size(about.len());
    tar.append_data(&mut header, name, file).io("archive", path)
}
