//! One file a record: a line of JSON for each version, of which the last whole one counts, synced to the disk in the background.
//!
//! A version is appended, not put in the former one's place by rename(2): there ext4 begins to write the file to the disk at
//! once (`auto_da_alloc` of ext4(5)), which a pod's few changes within some milliseconds would each pay for.

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

/// Bytes that a record's file may have before it is replaced by one with the newest version only, but for those that have few
/// versions of such a length.
const MOST: u64 = 64 << 10;
/// Versions that a file may have however long they are.
const FEW: u64 = 4;

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

    /// Writes the record of `id`. It outlives this process when this returns, and a power cut about a second later.
    ///
    /// # Errors
    /// [`Error::Io`]; the former record still counts then.
    pub fn write(&self, id: &str, record: &R) -> Result<()> {
        let path = self.path(id);
        let text = serde_json::to_vec(record).map_err(|e| Error::Io {
            verb: "encode record",
            path: path.clone(),
            source: e.into(),
        })?;
        append(&path, &text)
            .and_then(|appended| if appended { Ok(()) } else { self.replace(id, &text) })
            .io("write record", &path)?;
        // The receiver lives as long as the process; if its thread died, records are merely synced later, by the kernel.
        drop(self.written.send(id.to_owned()));
        Ok(())
    }

    /// The file of `id`, new, with this version alone.
    fn replace(&self, id: &str, text: &[u8]) -> io::Result<()> {
        let tmp = self.dir.join(format!(".{id}.tmp"));
        let done = write_private(&tmp, text).and_then(|()| fs::rename(&tmp, self.path(id)));
        if done.is_err() {
            drop(fs::remove_file(&tmp));
        }
        done
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

/// The newest version that is whole: those that a crash or a full disk tore are passed over.
fn read<R: DeserializeOwned>(path: &Path) -> Result<R> {
    let text = fs::read(path).io("read record", path)?;
    let mut torn = None;
    for version in text.rsplit(|&byte| byte == b'\n') {
        match serde_json::from_slice(version) {
            Ok(record) => return Ok(record),
            // Some file systems show zeros where a power cut took what was written.
            Err(e) if e.is_eof() || version.contains(&0) => torn = Some(e),
            Err(e) => return Err(undecodable(path, e)),
        }
    }
    let end = || serde::de::Error::custom("it is empty");
    Err(undecodable(path, torn.unwrap_or_else(end)))
}

fn undecodable(path: &Path, error: serde_json::Error) -> Error {
    Error::Io {
        verb: "decode record",
        path: path.to_owned(),
        source: error.into(),
    }
}

/// Whether `text` was added to the file: not where there is none, or it has become too long.
fn append(path: &Path, text: &[u8]) -> io::Result<bool> {
    let mut file = match File::options().append(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let size = text.len() as u64 + 1;
    if file.metadata()?.len() + size > MOST.max(FEW * size) {
        return Ok(false);
    }
    // The line's end comes first, so that what a failed write has torn is a line of its own.
    let line: Vec<u8> = [b"\n", text].concat();
    file.write_all(&line).map(|()| true)
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
    fn the_newest_whole_version_counts() {
        let tmp = tempfile::tempdir().unwrap();
        let records = open(tmp.path());
        let path = tmp.path().join("a.json");
        let read = || records.load().unwrap().records;
        for tail in ["", "\n", "\n[7", "\n[7,\n[8", "\n\0\0\0", "\n[7,\0\0"] {
            fs::write(&path, format!("[1]\n[2]{tail}")).unwrap();
            assert_eq!(read(), [vec![2]], "{tail:?}");
            records.write("a", &vec![3]).unwrap();
            assert_eq!(read(), [vec![3]], "{tail:?}");
        }
        // A version that this program doesn't understand is not taken for a torn one.
        fs::write(&path, "[1]\n{\"of\":\"tomorrow\"}").unwrap();
        assert_eq!(records.load().unwrap().broken.len(), 1);
    }

    #[test]
    fn a_file_does_not_grow_without_end() {
        let tmp = tempfile::tempdir().unwrap();
        let records = open(tmp.path());
        let length = || fs::metadata(tmp.path().join("a.json")).unwrap().len();
        for round in 0..10_000 {
            records.write("a", &vec![round; 10]).unwrap();
            assert!(length() <= MOST, "{round}: {}", length());
        }
        let long = vec![1_000_000; 50_000];
        for _ in 0..20 {
            records.write("a", &long).unwrap();
            assert!(length() <= FEW * 8 * 50_000 + FEW * 2, "{}", length());
        }
        assert_eq!(records.load().unwrap().records, [long]);
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
