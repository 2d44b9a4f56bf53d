//! Why a layer can't be unpacked.

use std::io;

/// Why a layer can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// An entry that must not or can't be unpacked.
    #[error("entry {name:?}: {reason}")]
    Entry {
        /// The entry's name; bytes that are no UTF-8 are shown as U+FFFD.
        name: String,
        /// What is wrong with it.
        reason: EntryError,
    },
    /// A system call for an entry failed.
    #[error("entry {name:?}: {verb}: {source}")]
    System {
        /// The entry's name.
        name: String,
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The archive's structure is broken.
    #[error("broken tar archive: {0}")]
    Format(String),
    /// The compressed stream is broken.
    #[error("broken {algorithm} stream: {reason}")]
    Compression {
        /// `gzip`, `zstd`.
        algorithm: &'static str,
        /// What the decompressor says.
        reason: String,
    },
    /// A compression that layers may not have.
    #[error("{0} compression is not supported")]
    UnknownCompression(&'static str),
    /// More content than the configuration allows.
    #[error("it unpacks to more than {limit} bytes")]
    TooLarge {
        /// The configured limit in bytes.
        limit: u64,
    },
    /// More entries than allowed.
    #[error("it has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
}

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A name with `..` in it.
    #[error("its path leaves the layer")]
    Escapes,
    /// A parent is a symbolic link that leads out of the layer.
    #[error("it would be written through a symbolic link that leaves the layer")]
    EscapesBySymlink,
    /// A parent is no folder.
    #[error("a parent of it is not a folder")]
    ParentNotFolder,
    /// A hard link whose target leaves the layer.
    #[error("its link target {0:?} leaves the layer")]
    LinkEscapes(String),
    /// A hard link to nothing.
    #[error("its link target {0:?} is not in the layer")]
    LinkTargetMissing(String),
    /// A hard link to a folder.
    #[error("its link target {0:?} is a folder")]
    LinkToFolder(String),
    /// A link without a target.
    #[error("it has no link target")]
    NoLinkTarget,
    /// A name or link target with a NUL byte.
    #[error("its name or link target holds a NUL byte")]
    NulByte,
    /// The layer's root as something else than a folder.
    #[error("the layer's root must be a folder")]
    RootNotFolder,
    /// A whiteout of nothing, `.` or `..`.
    #[error("it is no valid whiteout")]
    BadWhiteout,
    /// A kind of entry that does not exist in layers.
    #[error("entries of type {0:?} are not supported")]
    UnknownType(char),
    /// A header field that is no number or out of range.
    #[error("its {0} is invalid")]
    BadField(&'static str),
    /// Extension records that break the PAX format.
    #[error("its extended header is malformed")]
    BadExtendedHeader,
    /// A map of a sparse file that contradicts itself.
    #[error("its sparse map is malformed")]
    BadSparseMap,
}
