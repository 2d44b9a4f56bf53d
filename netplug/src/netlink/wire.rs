//! Netlink attributes to and from bytes, for the messages that netlink-packet-route has no types for.
//!
//! An attribute is a 16-bit length (header included), a 16-bit type and the value, padded to 4 bytes.

/// Marks an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// The type is in the lower bits; the upper ones are flags.
const TYPE_MASK: u16 = 0x3fff;

/// Writes attributes one behind another.
#[derive(Debug, Default, Clone)]
pub(crate) struct Attrs(Vec<u8>);

impl Attrs {
    /// Begins with a fixed header, such as `struct tcmsg`.
    pub(crate) fn with_header(header: &[u8]) -> Self {
        Attrs(header.to_vec())
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A C string with its NUL.
    pub(crate) fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// In the host's byte order, as route netlink wants it.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// In the host's byte order.
    pub(crate) fn u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Big-endian, as nf_tables wants it.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Walks the attributes of a buffer; stops at the first that isn't whole.
pub(crate) struct AttrIter<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for AttrIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// The value of the first attribute of a kind.
pub(crate) fn find(buffer: &[u8], kind: u16) -> Option<&[u8]> {
    AttrIter(buffer).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let mut attrs = Attrs::default();
        attrs.string(1, "ab").nested(2, |inner| {
            inner.be32(3, 7).u32(4, 9);
        });
        let bytes = attrs.into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(find(&bytes, 1), Some(&b"ab\0"[..]));
        let inner = find(&bytes, 2).expect("nested attribute");
        assert_eq!(find(inner, 3), Some(&7u32.to_be_bytes()[..]));
        assert_eq!(find(inner, 4), Some(&9u32.to_ne_bytes()[..]));
        assert_eq!(find(inner, 5), None);
    }

    #[test]
    fn a_torn_attribute_ends_the_walk() {
        let mut attrs = Attrs::default();
        attrs.u32(1, 1).u32(2, 2);
        let mut bytes = attrs.into_bytes();
        bytes.truncate(13);
        assert_eq!(AttrIter(&bytes).count(), 1);
        assert_eq!(
            AttrIter(&[0, 0, 0, 0]).count(),
            0,
            "a length of zero must not loop"
        );
    }
}
