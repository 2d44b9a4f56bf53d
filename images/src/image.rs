//! What callers see of an image.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;

use crate::digest::Digest;

/// An image in the store. It never changes: a moved tag makes a new value.
#[derive(Debug, Clone)]
pub struct Image {
    /// `sha256:` and the hex digest of the configuration.
    pub id: String,
    /// Every tag that points here, as `domain/path:tag`, sorted.
    pub repo_tags: Vec<String>,
    /// Every digest it was pulled by (of an index or manifest), as `domain/path@digest`, sorted.
    pub repo_digests: Vec<String>,
    /// Compressed size in bytes, with the configuration.
    pub size: u64,
    /// The configuration, parsed.
    pub config: ImageConfiguration,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// Diff ids of its layers, the base first.
    pub layers: Vec<Digest>,
    /// Whether the configuration wants it kept.
    pub pinned: bool,
}

/// What the store takes of the disk, from counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Whether `name` fits `pattern`, in which `*` stands for any text.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        if let Some(middle) = last.replace(piece) {
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    match last {
        None => rest.is_empty(),
        Some(last) => rest.ends_with(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "anything", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*bc", "abc", true),
            ("ab*bc", "abc", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
