//! The file of RDT classes, in goresctrl's form: partitions that divide a cache, and in each the classes that share it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) options: Options,
    /// By name, which counts for nothing but the order in which they lie in a cache.
    pub(super) partitions: BTreeMap<String, Partition>,
}

/// What may be missing on a node that uses the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    pub(super) l2: Optional,
    pub(super) l3: Optional,
    pub(super) mb: Optional,
}

/// Whether a class may go without.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Optional {
    pub(super) optional: bool,
}

/// A part of each cache that no other partition has, and a limit of memory bandwidth.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Partition {
    #[serde(rename = "l2Allocation")]
    pub(super) l2: Option<Caches>,
    #[serde(rename = "l3Allocation")]
    pub(super) l3: Option<Caches>,
    #[serde(rename = "mbAllocation")]
    pub(super) mb: Option<Bandwidths>,
    /// By name; one that is empty has all of its partition.
    pub(super) classes: BTreeMap<String, Option<Class>>,
}

/// A share of its partition's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Class {
    #[serde(rename = "l2Allocation")]
    pub(super) l2: Option<Caches>,
    #[serde(rename = "l3Allocation")]
    pub(super) l3: Option<Caches>,
    #[serde(rename = "mbAllocation")]
    pub(super) mb: Option<Bandwidths>,
    pub(super) kubernetes: Kubernetes,
}

/// By whom a class may not be chosen.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Kubernetes {
    pub(super) deny_pod_annotation: bool,
    pub(super) deny_container_annotation: bool,
}

/// Shares of caches: of all alike, or by lists of the caches' numbers (`0,2-3`, `all`).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Caches {
    Alike(String),
    Each(BTreeMap<String, Parts>),
}

/// A share: of code and data together, or of each by itself where the kernel tells them apart.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Parts {
    Unified(String),
    Apart(Apart),
}

/// See [`Parts`]. `unified` is what counts where the kernel doesn't tell code from data.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Apart {
    pub(super) unified: Option<String>,
    pub(super) code: Option<String>,
    pub(super) data: Option<String>,
}

/// Limits of memory bandwidth, as `Caches`; each in percent, in MBps, or both: one of them counts, as resctrl is mounted.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Bandwidths {
    Alike(Vec<String>),
    Each(BTreeMap<String, Vec<String>>),
}

impl Parts {
    /// Together, code, data.
    pub(super) fn texts(&self) -> [Option<&str>; 3] {
        match self {
            Self::Unified(text) => [Some(text), None, None],
            Self::Apart(apart) => [
                apart.unified.as_deref(),
                apart.code.as_deref(),
                apart.data.as_deref(),
            ],
        }
    }
}

impl File {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub(super) fn parse(text: &str) -> Result<File, String> {
        serde_saphyr::from_str(text)
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}
