//! The images that are pulled, of what lies in the machine's /usr: programs, libraries, documents, as images have them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use pintle_tests::image::{Builder, Format, Image, Packing};
use serde_json::json;

/// A base, and ten more: as an ordinary image of a language has them.
const LAYERS: usize = 11;
const BLOCK: u64 = 4096;
/// Files larger than this would be a layer each.
const LARGEST: u64 = 30 << 20;

/// The layers as tars.
pub(crate) struct Content {
    layers: Vec<Vec<u8>>,
    pub(crate) files: usize,
    /// Bytes of the files, in whole blocks of the disk.
    pub(crate) unpacked: u64,
}

/// Takes files of this machine until there are `wanted` bytes of them.
pub(crate) fn from_host(wanted: u64) -> Result<Content> {
    let mut found = Vec::new();
    let mut total = 0;
    for folder in ["/usr/lib", "/usr/bin", "/usr/share", "/usr/sbin"] {
        walk(Path::new(folder), wanted, &mut total, &mut found)?;
    }
    let mut layers = Vec::new();
    for part in found.chunks(found.len().div_ceil(LAYERS)) {
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        let mut folders = BTreeSet::new();
        for path in part {
            // As images have them: each folder once, before what lies in it.
            let mut above: Vec<&Path> = path
                .ancestors()
                .skip(1)
                .filter(|folder| folder.parent().is_some())
                .collect();
            above.reverse();
            for folder in above {
                if folders.insert(folder.to_owned()) {
                    tar.append_path_with_name(folder, folder.strip_prefix("/")?)?;
                }
            }
            tar.append_path_with_name(path, path.strip_prefix("/")?)?;
        }
        layers.push(tar.into_inner()?);
    }
    Ok(Content {
        layers,
        files: found.len(),
        unpacked: total,
    })
}

fn walk(folder: &Path, wanted: u64, total: &mut u64, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if *total >= wanted {
            return Ok(());
        }
        let stat = path.symlink_metadata()?;
        if stat.is_dir() {
            walk(&path, wanted, total, found)?;
        } else if stat.is_symlink() || (stat.is_file() && stat.len() < LARGEST) {
            *total += if stat.is_file() {
                stat.len().next_multiple_of(BLOCK)
            } else {
                0
            };
            found.push(path);
        }
    }
    Ok(())
}

impl Content {
    /// All layers; the `changed` last ones are others than in the image that has none changed.
    pub(crate) fn image(&self, packing: Packing, changed: usize) -> Result<Image> {
        let mut builder = Builder::new(Format::Oci).config("Labels", json!({"changed": changed.to_string()}));
        let kept = self.layers.len() - changed;
        for (number, layer) in self.layers.iter().enumerate() {
            let mut layer = layer.clone();
            if number >= kept {
                // Two more blocks of zeros end a tar as well as two do.
                layer.extend_from_slice(&[0; 1024]);
            }
            builder = builder.layer(layer, packing);
        }
        builder.build()
    }

    /// One of `of` images that share nothing.
    pub(crate) fn slice(&self, number: usize, of: usize) -> Result<Image> {
        let mut builder = Builder::new(Format::Oci).config("Labels", json!({"slice": number.to_string()}));
        for layer in self.layers.iter().skip(number).step_by(of) {
            builder = builder.layer(layer.clone(), Packing::Gzip);
        }
        builder.build()
    }
}
