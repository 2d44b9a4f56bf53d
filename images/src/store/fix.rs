//! Gives folders their attributes back that an upper layer only mentions on the way to its files.
//!
//! A layer with `tmp/file` and no entry for `tmp/` leaves the `tmp/` of the layers below as it is. Here each layer
//! is unpacked for itself, whatever lies under it, so its `tmp/` is made with default attributes, and overlayfs shows
//! the topmost. An image that has such folders gets one more layer on top, of nothing but these folders with the
//! attributes that they should have. Most images have none.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;

use super::Inner;
use super::records::LayerRecord;
use super::temp::TempDir;
use crate::digest::Digest;
use crate::error::{Error, IoContext as _, Result};

const DEFAULT_MODE: u32 = 0o755;
const OPAQUE: &str = "trusted.overlay.opaque";
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const MAX_XATTR: usize = 4096;

/// A folder and what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Folder {
    path: String,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, i64),
    xattrs: Vec<(&'static str, Vec<u8>)>,
}

/// A layer of an image, where it lies.
pub(super) struct Placed {
    pub(super) path: PathBuf,
    pub(super) record: LayerRecord,
}

/// What one layer says of a path.
enum Found {
    /// Nothing, and layers below count.
    Nothing,
    /// Nothing, and layers below don't count.
    Hidden,
    /// A folder; whether layers below count.
    Folder(OwnedFd, bool),
}

impl Inner {
    /// Makes the layer of folders for an image's layers, the topmost first; `None` if none is needed.
    pub(super) fn make_fix(&self, layers: &[Placed]) -> Result<Option<(Digest, LayerRecord, TempDir)>> {
        let folders = plan(layers)?;
        if folders.is_empty() {
            return Ok(None);
        }
        let text = serde_json::to_string(&folders).map_err(|source| Error::Record {
            key: "folders".to_owned(),
            source,
        })?;
        let id = Digest::of(format!("pintle folders\n{text}").as_bytes());
        let temp = self.temp.make()?;
        for folder in &folders {
            make(temp.path(), folder)?;
        }
        for folder in folders.iter().rev() {
            set_time(temp.path(), folder)?;
        }
        let inodes = folders.len() as u64 + 1;
        let record = LayerRecord {
            bytes: inodes * 4096,
            inodes,
            ..LayerRecord::default()
        };
        Ok(Some((id, record, temp)))
    }
}

/// The folders that must be given back their attributes, parents first.
fn plan(layers: &[Placed]) -> Result<Vec<Folder>> {
    let mut wanted: Vec<&str> = layers
        .iter()
        .flat_map(|layer| &layer.record.implicit)
        .map(String::as_str)
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut folders: Vec<Folder> = Vec::new();
    for path in wanted {
        if !shown_as_default(layers, path)? {
            continue;
        }
        // The folders on the way are in the new layer, too, and must not change by that.
        let prefixes = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
        for prefix in prefixes {
            if !folders.iter().any(|folder| folder.path == prefix)
                && let Some(folder) = effective(layers, prefix)?
            {
                folders.push(folder);
            }
        }
    }
    folders.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(folders)
}

/// Whether overlayfs shows default attributes where a layer below has others.
fn shown_as_default(layers: &[Placed], path: &str) -> Result<bool> {
    for layer in layers {
        match look(layer, path)? {
            Found::Nothing => {}
            Found::Hidden => return Ok(false),
            Found::Folder(..) if !is_implicit(layer, path) => return Ok(false),
            Found::Folder(..) => {
                let folder = effective(layers, path)?;
                return Ok(folder.is_some_and(|folder| {
                    (folder.mode, folder.uid, folder.gid) != (DEFAULT_MODE, 0, 0) || !folder.xattrs.is_empty()
                }));
            }
        }
    }
    Ok(false)
}

fn is_implicit(layer: &Placed, path: &str) -> bool {
    layer.record.implicit.iter().any(|implicit| implicit == path)
}

/// What the folder is when the layers are applied one after the other: the topmost that names it decides.
fn effective(layers: &[Placed], path: &str) -> Result<Option<Folder>> {
    let mut folder = None;
    for layer in layers {
        match look(layer, path)? {
            Found::Nothing => {}
            Found::Hidden => break,
            Found::Folder(fd, more) => {
                let implicit = is_implicit(layer, path);
                if folder.is_none() || !implicit {
                    folder = Some(describe(&fd, path).at("look at", &layer.path.join(path))?);
                }
                if !implicit || !more {
                    break;
                }
            }
        }
        if layer.record.opaque_root {
            break;
        }
    }
    Ok(folder)
}

fn look(layer: &Placed, path: &str) -> Result<Found> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = fs::File::open(&layer.path).at("open", &layer.path)?;
    let mut more = true;
    let mut last = None;
    for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&root, &path[..end], flags, Mode::empty(), how) {
            Ok(fd) => {
                more &= !is_opaque(&fd);
                last = Some(fd);
            }
            Err(Errno::NOENT) if more => return Ok(Found::Nothing),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(Found::Hidden),
            Err(errno) => return Err(errno).at("open", &layer.path.join(path)),
        }
    }
    Ok(last.map_or(Found::Nothing, |fd| Found::Folder(fd, more)))
}

fn is_opaque(fd: &OwnedFd) -> bool {
    xattr(fd, OPAQUE).as_deref() == Some(b"y")
}

fn xattr(fd: &OwnedFd, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; MAX_XATTR];
    let length = rustix::fs::fgetxattr(fd, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

fn describe(fd: &OwnedFd, path: &str) -> Result<Folder, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    debug_assert_eq!(FileType::from_raw_mode(stat.st_mode), FileType::Directory);
    Ok(Folder {
        path: path.to_owned(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (
            stat.st_mtime,
            i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        ),
        xattrs: [ACCESS, DEFAULT]
            .into_iter()
            .filter_map(|name| Some((name, xattr(fd, name)?)))
            .collect(),
    })
}

/// Makes a folder in the new layer, whose tree holds nothing but folders made here.
fn make(root: &Path, folder: &Folder) -> Result<()> {
    let path = root.join(&folder.path);
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .at("create", &path)?;
    std::os::unix::fs::chown(&path, Some(folder.uid), Some(folder.gid)).at("set owner of", &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(folder.mode)).at("set mode of", &path)?;
    for (name, value) in &folder.xattrs {
        let set = rustix::fs::lsetxattr(&path, *name, value, rustix::fs::XattrFlags::empty());
        set.at("set extended attribute of", &path)?;
    }
    Ok(())
}

fn set_time(root: &Path, folder: &Folder) -> Result<()> {
    let path = root.join(&folder.path);
    let time = rustix::fs::Timespec {
        tv_sec: folder.mtime.0,
        tv_nsec: folder.mtime.1,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let set = rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.at("set times of", &path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn layer(root: &Path, name: &str, folders: &[(&str, u32)], implicit: &[&str]) -> Placed {
        let path = root.join(name);
        fs::create_dir(&path).unwrap();
        for (folder, mode) in folders {
            fs::create_dir(path.join(folder)).unwrap();
            fs::set_permissions(path.join(folder), fs::Permissions::from_mode(*mode)).unwrap();
        }
        let implicit = implicit.iter().map(|path| (*path).to_owned()).collect();
        Placed {
            path,
            record: LayerRecord {
                implicit,
                ..LayerRecord::default()
            },
        }
    }

    fn planned(layers: &[Placed]) -> Vec<(String, u32)> {
        plan(layers)
            .unwrap()
            .into_iter()
            .map(|folder| (folder.path, folder.mode))
            .collect()
    }

    #[test]
    fn the_topmost_that_names_a_folder_decides() {
        let temp = tempfile::tempdir().unwrap();
        let make = |name: &str, folders: &[(&str, u32)], implicit: &[&str]| {
            layer(temp.path(), name, folders, implicit)
        };
        let base = make(
            "base",
            &[("tmp", 0o1777), ("var", 0o755), ("var/spool", 0o711)],
            &[],
        );
        let upper = make(
            "upper",
            &[("tmp", 0o755), ("var", 0o755), ("var/spool", 0o755)],
            &["tmp", "var", "var/spool"],
        );
        let expected = [
            ("tmp".into(), 0o1777),
            ("var".into(), 0o755),
            ("var/spool".into(), 0o711),
        ];
        assert_eq!(planned(&[upper, base]), expected);
        let base = make("base2", &[("tmp", 0o1777)], &[]);
        let named = make("named", &[("tmp", 0o700)], &[]);
        let upper = make("upper2", &[("tmp", 0o755)], &["tmp"]);
        assert_eq!(planned(&[named, upper, base]), []);
    }

    #[test]
    fn what_is_hidden_does_not_count() {
        let temp = tempfile::tempdir().unwrap();
        let make = |name: &str, folders: &[(&str, u32)], implicit: &[&str]| {
            layer(temp.path(), name, folders, implicit)
        };
        let base = make("base", &[("d", 0o700)], &[]);
        let opaque = make("opaque", &[("d", 0o755)], &["d"]);
        let path = opaque.path.join("d");
        rustix::fs::lsetxattr(&path, OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(planned(&[opaque, base]), []);
        let base = make("base2", &[("d", 0o700)], &[]);
        let file = make("file", &[], &[]);
        fs::write(file.path.join("d"), "in the way").unwrap();
        let upper = make("upper", &[("d", 0o755)], &["d"]);
        assert_eq!(planned(&[upper, file, base]), []);
    }

    #[test]
    fn metadata_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder {
            path: "x".into(),
            mode: 0o1770,
            uid: 3,
            gid: 4,
            mtime: (77, 5),
            xattrs: Vec::new(),
        };
        make(temp.path(), &folder).unwrap();
        set_time(temp.path(), &folder).unwrap();
        let stat = fs::metadata(temp.path().join("x")).unwrap();
        assert_eq!(
            (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()),
            (0o1770, 3, 4, 77)
        );
        assert_eq!(
            describe(&fs::File::open(temp.path().join("x")).unwrap().into(), "x").unwrap(),
            folder
        );
    }
}
