//! One JSON file a record, replaced as a whole, synced to the disk in the background.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, IoContext as _, Result};

/// How long written records gather before they are synced together.
const SYNC_DELAY: Duration = Duration::from_millis(500);

/// A folder that holds one file `<id>.json` for each record of one kind.
#[derive(Debug, Clone)]
pub struct RecordDir<R> {
    dir: PathBuf,
    written: Sender<String>,
    kind: PhantomData<fn() -> R>,
}

/// What a folder of records held when it was opened.
#[derive(Debug)]
pub struct Loaded<R> {
    /// The records that could be read.
    pub records: Vec<R>,
    /// Ids of the files that could not, each with the reason; the files are left in place.
    pub broken: Vec<(String, Error)>,
}

impl<R: Serialize + DeserializeOwned> RecordDir<R> {
    /// Opens the folder, makes it if it is missing, and starts its background sync.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder can't be made or the thread can't be started.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).io("create folder", dir)?;
        let (written, queue) = channel();
        let path = dir.to_owned();
        std::thread::Builder::new()
            .name("record-sync".to_owned())
            .spawn(move || sync_in_background(&path, &queue))
            .io("start the sync thread of", dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            written,
            kind: PhantomData,
        })
    }

    /// Replaces the record of `id`. It outlives this process when this returns, and a power cut about a second later.
    ///
    /// # Errors
    /// [`Error::Io`]; the former record is then untouched.
    pub fn write(&self, id: &str, record: &R) -> Result<()> {
        let path = self.path(id);
        let tmp = self.dir.join(format!(".{id}.tmp"));
        let text = serde_json::to_vec(record).map_err(|e| Error::Io {
            verb: "encode record",
            path: path.clone(),
            source: e.into(),
        })?;
        let done = write_private(&tmp, &text).and_then(|()| fs::rename(&tmp, &path));
        if done.is_err() {
            drop(fs::remove_file(&tmp));
        }
        done.io("write record", &path)?;
        // The receiver lives as long as the process; if its thread died, records are merely synced later, by the kernel.
        drop(self.written.send(id.to_owned()));
        Ok(())
    }

    /// Removes the record of `id`; a missing one is fine.
    ///
    /// # Errors
    /// [`Error::Io`] for any other reason.
    pub fn remove(&self, id: &str) -> Result<()> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.io("remove record", &path),
        }
    }

    /// Reads all records, and clears what an interrupted write left.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder can't be listed; a broken file is no error.
    pub fn load(&self) -> Result<Loaded<R>> {
        let mut loaded = Loaded {
            records: Vec::new(),
            broken: Vec::new(),
        };
        for entry in fs::read_dir(&self.dir).io("list folder", &self.dir)? {
            let path = entry.io("list folder", &self.dir)?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
                continue;
            };
            if name.starts_with('.') {
                drop(fs::remove_file(&path));
            } else if let Some(id) = name.strip_suffix(".json") {
                match read(&path) {
                    Ok(record) => loaded.records.push(record),
                    Err(e) => loaded.broken.push((id.to_owned(), e)),
                }
            }
        }
        Ok(loaded)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

fn read<R: DeserializeOwned>(path: &Path) -> Result<R> {
    let text = fs::read(path).io("read record", path)?;
    serde_json::from_slice(&text).map_err(|e| Error::Io {
        verb: "decode record",
        path: path.to_owned(),
        source: e.into(),
    })
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}

/// Syncs what was written, a batch at a time. A record that is gone or was replaced meanwhile needs nothing.
fn sync_in_background(dir: &Path, queue: &Receiver<String>) {
    while let Ok(first) = queue.recv() {
        std::thread::sleep(SYNC_DELAY);
        let mut batch: Vec<String> = std::iter::once(first).chain(queue.try_iter()).collect();
        batch.sort_unstable();
        batch.dedup();
        let files = batch.iter().map(|id| dir.join(format!("{id}.json")));
        for path in files.chain([dir.to_owned()]) {
            match File::open(&path).and_then(|f| f.sync_data()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), error = %e, "a record could not be synced to the disk");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> RecordDir<Vec<u32>> {
        RecordDir::open(dir).unwrap()
    }

    #[test]
    fn what_was_written_last_is_read_back() {
        let tmp = tempfile::tempdir().unwrap();
        let records = open(tmp.path());
        records.write("a", &vec![1]).unwrap();
        records.write("a", &vec![2]).unwrap();
        records.write("b", &vec![3]).unwrap();
        records.remove("b").unwrap();
        records.remove("never-there").unwrap();
        let loaded = open(tmp.path()).load().unwrap();
        assert_eq!(loaded.records, [vec![2]]);
        assert!(loaded.broken.is_empty());
    }

    #[test]
    fn a_torn_file_is_reported_and_the_others_still_load() {
        let tmp = tempfile::tempdir().unwrap();
        let records = open(tmp.path());
        records.write("good", &vec![1]).unwrap();
        fs::write(tmp.path().join("torn.json"), "[1,").unwrap();
        fs::write(tmp.path().join(".half.tmp"), "[").unwrap();
        let loaded = records.load().unwrap();
        assert_eq!(loaded.records, [vec![1]]);
        assert_eq!(loaded.broken.len(), 1);
        assert_eq!(loaded.broken[0].0, "torn");
        assert!(!tmp.path().join(".half.tmp").exists());
    }
}
