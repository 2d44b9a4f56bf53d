//! Builds archives entry by entry, also such as no honest program writes.

use tar::{EntryType, Header};

/// An archive under construction.
#[derive(Default)]
pub(super) struct Archive(Vec<u8>);

impl Archive {
    pub(super) fn new() -> Archive {
        Archive::default()
    }

    /// An entry with a name as it is, however hostile.
    pub(super) fn raw(
        mut self,
        kind: u8,
        name: &[u8],
        data: &[u8],
        edit: impl FnOnce(&mut Header),
    ) -> Archive {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        edit(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, data: &str) -> Archive {
        self.raw(b'0', name.as_bytes(), data.as_bytes(), |_| ())
    }

    pub(super) fn folder(self, name: &str) -> Archive {
        self.raw(b'5', name.as_bytes(), b"", |header| header.set_mode(0o755))
    }

    fn link(self, kind: u8, name: &str, target: &str) -> Archive {
        self.raw(kind, name.as_bytes(), b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Archive {
        self.link(b'2', name, target)
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Archive {
        self.link(b'1', name, target)
    }

    /// PAX records for the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Archive {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(b'x', b"PaxHeaders/x", &data, |_| ())
    }

    /// A GNU long name for the next entry.
    pub(super) fn long_name(self, name: &[u8]) -> Archive {
        let mut data = name.to_vec();
        data.push(0);
        self.raw(b'L', b"././@LongLink", &data, |_| ())
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
