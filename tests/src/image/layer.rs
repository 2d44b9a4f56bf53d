//! A layer's tar, honest or hostile.

use tar::{EntryType, Header};

/// Writes a tar entry by entry; names and link targets are taken as they are, also `../` and `/etc`.
#[derive(Default)]
pub struct Layer {
    bytes: Vec<u8>,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Layer {
        Layer::default()
    }

    /// A folder.
    #[must_use]
    pub fn dir(self, path: &str, mode: u32) -> Layer {
        self.entry(path, EntryType::Directory, mode, "", &[])
    }

    /// A file owned by root.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Layer {
        self.entry(path, EntryType::Regular, mode, "", content.as_ref())
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Layer {
        self.entry(path, EntryType::Symlink, 0o777, target, &[])
    }

    /// A hard link to an earlier entry.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Layer {
        self.entry(path, EntryType::Link, 0o644, target, &[])
    }

    /// Hides `path` of the layers below (OCI image layer, "whiteouts").
    #[must_use]
    pub fn whiteout(self, path: &str) -> Layer {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if parent.is_empty() { "" } else { "/" };
        self.file(&format!("{parent}{slash}.wh.{name}"), 0o644, "")
    }

    /// Hides all that the layers below hold in the folder `path`.
    #[must_use]
    pub fn opaque(self, path: &str) -> Layer {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, "")
    }

    /// Any entry. Names longer than the old header's 100 bytes are cut.
    #[must_use]
    pub fn entry(mut self, path: &str, kind: EntryType, mode: u32, link: &str, content: &[u8]) -> Layer {
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        copy(&mut old.name, path);
        copy(&mut old.linkname, link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_767_225_600);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        let padding = content.len().next_multiple_of(512) - content.len();
        self.bytes.resize(self.bytes.len() + padding, 0);
        self
    }

    /// The finished tar.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

fn copy(field: &mut [u8], text: &str) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_a_tar_reader_reads() {
        let tar = Layer::new()
            .dir("d", 0o755)
            .file("d/f", 0o600, "hello")
            .symlink("l", "../up")
            .whiteout("d/x")
            .finish();
        let mut archive = tar::Archive::new(tar.as_slice());
        let names: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|e| e.expect("entry").path().expect("path").display().to_string())
            .collect();
        assert_eq!(names, ["d", "d/f", "l", "d/.wh.x"]);
    }
}
