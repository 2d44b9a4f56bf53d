//! Names in an archive, made safe: relative to the layer's root, without `.`, `..` or empty components.

use super::error::EntryError;

/// A cleaned path below the layer's root; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Cleans a name from an archive. A leading `/` means the layer's root, as every unpacker reads it.
    pub(super) fn clean(raw: &[u8]) -> Result<LayerPath, EntryError> {
        if raw.contains(&0) {
            return Err(EntryError::NulByte);
        }
        let mut clean = Vec::with_capacity(raw.len());
        for component in raw.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(EntryError::Escapes),
                name => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(name);
                }
            }
        }
        Ok(LayerPath(clean))
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn name_at(&self) -> usize {
        self.0
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |slash| slash + 1)
    }

    /// The last component.
    pub(super) fn name(&self) -> &[u8] {
        &self.0[self.name_at()..]
    }

    /// Everything before the last component; empty for the root.
    pub(super) fn parent(&self) -> &[u8] {
        &self.0[..self.name_at().saturating_sub(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans() {
        for (raw, clean, parent, name) in [
            (&b"a"[..], &b"a"[..], &b""[..], &b"a"[..]),
            (b"./a//b/./c/", b"a/b/c", b"a/b", b"c"),
            (b"/etc/passwd", b"etc/passwd", b"etc", b"passwd"),
            (b"./", b"", b"", b""),
            (b"\xff/\xfe", b"\xff/\xfe", b"\xff", b"\xfe"),
            (b"a/..b/...", b"a/..b/...", b"a/..b", b"..."),
        ] {
            let path = LayerPath::clean(raw).unwrap();
            assert_eq!(
                (path.as_bytes(), path.parent(), path.name()),
                (clean, parent, name)
            );
        }
        assert!(LayerPath::clean(b"/").unwrap().is_root());
    }

    #[test]
    fn refuses_to_leave() {
        for raw in [&b".."[..], b"../a", b"a/../b", b"/..", b"a/b/.."] {
            assert_eq!(LayerPath::clean(raw), Err(EntryError::Escapes));
        }
        assert_eq!(LayerPath::clean(b"a\0b"), Err(EntryError::NulByte));
    }
}
