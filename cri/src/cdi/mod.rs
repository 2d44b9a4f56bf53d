//! The Container Device Interface: devices that vendors describe in files, named `vendor.com/class=name`.
//!
//! ```text
//! name.rs   what names may look like
//! file.rs   a file's own types, its versions, and what of it is refused
//! edits.rs  what a device changes in a runtime spec
//! ```
//!
//! The folders are looked at again whenever somebody wants a device; a file is read again when it has changed. A file that
//! can't be used is left out with a warning, and the request for a device that isn't there tells of it. The folders named
//! later go before; a device that two files of one folder describe is nobody's.
//!
//! This is code of our own because the crate of that name brings a command line parser and a JSON schema validator into the
//! daemon, and doesn't say which file kept a device from being there.

mod edits;
mod file;
mod name;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::Spec;

use crate::error::{Error, Result};
use crate::proto::ContainerConfig;
use file::{Description, Format};
use name::Name;

/// Annotations that begin so hold names, separated by commas; kubelet's way before it had a field for them.
const ANNOTATION: &str = "cdi.k8s.io/";
/// The field of a request that holds names.
const FIELD: &str = "CDI_devices";
/// A larger file is none of these.
const MAX_FILE: u64 = 8 << 20;
/// As many files that can't be used are told of in an error.
const MOST_REASONS: usize = 3;

/// The descriptions on this machine.
#[derive(Debug)]
pub struct Cdi {
    folders: Vec<PathBuf>,
    /// Files as they were when they were last looked at.
    known: Mutex<HashMap<PathBuf, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    content: std::result::Result<Arc<Description>, String>,
}

/// Tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Of the inode's last change, in seconds and nanoseconds.
    changed: (i64, i64),
}

/// All devices of now.
#[derive(Debug, Default)]
struct Devices {
    /// By qualified name: the file, or why there is none.
    by_name: BTreeMap<String, std::result::Result<Arc<Description>, String>>,
    /// Files that can't be used, and why.
    left_out: Vec<String>,
}

impl Cdi {
    /// Descriptions in these folders, of which later ones go before; they need not exist.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            known: Mutex::default(),
        }
    }

    /// The devices that a container's config asks for, by its field and by annotations; each once.
    ///
    /// # Errors
    /// A name that is none.
    pub fn asked_for(config: &ContainerConfig) -> Result<Vec<String>> {
        let fields = config.cdi_devices.iter().map(|device| device.name.as_str());
        let annotations = config
            .annotations
            .iter()
            .filter(|(key, _)| key.starts_with(ANNOTATION))
            .flat_map(|(_, value)| value.split(',').map(str::trim));
        let mut all: Vec<String> = Vec::new();
        for name in fields.chain(annotations) {
            Name::parse(name).map_err(|reason| Error::invalid(FIELD, format!("{name:?}: {reason}")))?;
            if !all.iter().any(|other| other == name) {
                all.push(name.to_owned());
            }
        }
        Ok(all)
    }

    /// Changes `spec` as these devices want it. Blocking.
    ///
    /// # Errors
    /// A name that is none, a device that isn't there, and what of its description can't be had.
    pub fn inject(&self, spec: &mut Spec, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let devices = self.devices();
        let mut of_files: Vec<Arc<Description>> = Vec::new();
        for name in names {
            let refuse = |reason: String| Error::invalid(FIELD, format!("{name:?}: {reason}"));
            let parsed = Name::parse(name).map_err(|reason| refuse(reason.to_owned()))?;
            let description = devices.find(name).map_err(refuse)?;
            // A file's common edits come once, before those of its first device.
            let is_first = !of_files.iter().any(|other| Arc::ptr_eq(other, &description));
            if is_first && let Some(common) = &description.container_edits {
                edits::apply(common, spec).map_err(refuse)?;
            }
            if let Some(device) = description.device(parsed.device) {
                edits::apply(&device.container_edits, spec).map_err(refuse)?;
            }
            if is_first {
                of_files.push(description);
            }
        }
        Ok(())
    }

    fn devices(&self) -> Devices {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut devices = Devices::default();
        let mut seen = Vec::new();
        for folder in &self.folders {
            let mut of_folder: BTreeMap<String, Vec<(PathBuf, Arc<Description>)>> = BTreeMap::new();
            for path in files(folder) {
                match look(&mut known, &path) {
                    Ok(description) => {
                        for name in description.qualified_names() {
                            let place = of_folder.entry(name).or_default();
                            place.push((path.clone(), Arc::clone(&description)));
                        }
                    }
                    Err(reason) => devices.left_out.push(format!("{}: {reason}", path.display())),
                }
                seen.push(path);
            }
            for (name, mut found) in of_folder {
                let one = match (found.len(), found.pop()) {
                    (1, Some((_, description))) => Ok(description),
                    (_, last) => {
                        let paths = found
                            .iter()
                            .chain(&last)
                            .map(|(path, _)| path.display().to_string());
                        Err(format!(
                            "described by {}",
                            paths.collect::<Vec<_>>().join(" and by ")
                        ))
                    }
                };
                devices.by_name.insert(name, one);
            }
        }
        known.retain(|path, _| seen.contains(path));
        devices
    }
}

impl Devices {
    fn find(&self, name: &str) -> std::result::Result<Arc<Description>, String> {
        match self.by_name.get(name) {
            Some(Ok(description)) => Ok(Arc::clone(description)),
            Some(Err(reason)) => Err(format!("no unambiguous device: {reason}")),
            None if self.left_out.is_empty() => Err("no such device is described".to_owned()),
            None => {
                let told: Vec<&str> = self
                    .left_out
                    .iter()
                    .take(MOST_REASONS)
                    .map(String::as_str)
                    .collect();
                Err(format!(
                    "no such device is described; files that can't be used: {}",
                    told.join("; ")
                ))
            }
        }
    }
}

/// The files of a folder that are descriptions by their names, in the order of these.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(folder = %folder.display(), %error, "device descriptions can't be read");
            }
            return Vec::new();
        }
    };
    let mut all: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| Format::of(path).is_some())
        .collect();
    all.sort();
    all
}

/// A file's content, read again only if it is another one than before.
fn look(known: &mut HashMap<PathBuf, Known>, path: &Path) -> std::result::Result<Arc<Description>, String> {
    let about = fs::metadata(path).map_err(|e| e.to_string())?;
    let stamp = Stamp {
        inode: about.ino(),
        size: about.len(),
        changed: (about.ctime(), about.ctime_nsec()),
    };
    if let Some(before) = known.get(path).filter(|before| before.stamp == stamp) {
        return before.content.clone();
    }
    let content = match about.is_file() {
        true => read(path).map(Arc::new),
        false => Err("is no regular file".to_owned()),
    };
    if let Err(reason) = &content {
        tracing::warn!(file = %path.display(), reason, "a device description is left out");
    }
    let now = Known { stamp, content };
    known.insert(path.to_owned(), now.clone());
    now.content
}

fn read(path: &Path) -> std::result::Result<Description, String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    let format = Format::of(path).ok_or("is neither .json nor .yaml")?;
    Description::parse(&text, format)
}
