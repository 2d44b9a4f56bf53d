//! The live copy of one record: read without waiting, changed by one writer at a time, on disk before it is seen.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RecordDir;
use crate::error::Result;

/// What can lie in a [`Cell`].
pub trait Record: Clone + Serialize + DeserializeOwned {
    /// The object's id, which is also the name of its file.
    fn id(&self) -> &str;
}

/// Whether a record still has a file. A change that comes after its removal must not bring it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDisk {
    Kept,
    Removed,
}

/// One record. [`Cell::get`] never waits for a disk or for a container.
#[derive(Debug)]
pub struct Cell<R> {
    current: RwLock<Arc<R>>,
    writer: Mutex<OnDisk>,
    dir: RecordDir<R>,
}

impl<R: Record> Cell<R> {
    /// A cell for a new record, which is written first.
    ///
    /// # Errors
    /// As [`RecordDir::write`].
    pub fn create(dir: &RecordDir<R>, record: R) -> Result<Self> {
        dir.write(record.id(), &record)?;
        Ok(Self::loaded(dir, record))
    }

    /// A cell for a record that was read from the disk.
    pub fn loaded(dir: &RecordDir<R>, record: R) -> Self {
        Self {
            current: RwLock::new(Arc::new(record)),
            writer: Mutex::new(OnDisk::Kept),
            dir: dir.clone(),
        }
    }

    /// The record as it is now.
    pub fn get(&self) -> Arc<R> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the record: `change` sees the newest one, and readers see the result once it is on disk.
    ///
    /// # Errors
    /// The error of `change`, or of writing; the record then stays as it was.
    pub fn update<T>(&self, change: impl FnOnce(&mut R) -> Result<T>) -> Result<T> {
        let on_disk = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = R::clone(&self.get());
        let answer = change(&mut next)?;
        if *on_disk == OnDisk::Kept {
            self.dir.write(next.id(), &next)?;
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(answer)
    }

    /// Changes the record in memory also where the disk refuses: for facts that have happened and can't be undone, such
    /// as an exit. A refusal is logged; the next change writes the whole record again.
    pub fn note(&self, change: impl FnOnce(&mut R)) {
        let on_disk = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = R::clone(&self.get());
        change(&mut next);
        if *on_disk == OnDisk::Kept
            && let Err(error) = self.dir.write(next.id(), &next)
        {
            tracing::error!(id = next.id(), %error, "a change is known to this daemon only");
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// Removes the record's file. Readers that hold the cell still see its last state.
    ///
    /// # Errors
    /// As [`RecordDir::remove`].
    pub fn delete(&self) -> Result<()> {
        let mut on_disk = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.dir.remove(self.get().id())?;
        *on_disk = OnDisk::Removed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq)]
    struct Counter {
        id: String,
        n: u32,
    }

    impl Record for Counter {
        fn id(&self) -> &str {
            &self.id
        }
    }

    #[test]
    fn a_change_is_on_disk_and_a_refused_one_changes_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = RecordDir::open(tmp.path()).unwrap();
        let cell = Cell::create(&dir, Counter { id: "x".into(), n: 1 }).unwrap();
        cell.update(|c| {
            c.n = 2;
            Ok(())
        })
        .unwrap();
        let refused = cell.update(|c| -> Result<()> {
            c.n = 3;
            Err(Error::invalid("n", "three is right out"))
        });
        assert!(refused.is_err());
        assert_eq!(cell.get().n, 2);
        assert_eq!(dir.load().unwrap().records, [Counter { id: "x".into(), n: 2 }]);
        cell.delete().unwrap();
        cell.note(|c| c.n = 4);
        assert_eq!(cell.get().n, 4, "readers still see what happens");
        assert!(dir.load().unwrap().records.is_empty());
    }
}
