//! What a container has written and deleted: its writable layer as a tar, and a list of paths.
//!
//! The layer is overlayfs's own form: a character device 0:0 stands for what was deleted, and a folder with the attribute
//! `trusted.overlay.opaque` hides what lies below it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use pintle_runtime::protocol::Overlay;
use pintle_runtime::rootfs::{detached_overlay, open_in_root};
use tar::{EntryType, Header};

use crate::error::{IoContext as _, Result};

const OPAQUE: &str = "trusted.overlay.opaque";
/// The attributes that belong to a file's content. Others are overlayfs's own, or the security module's.
const ATTRIBUTES: [&str; 2] = ["user.", "security.capability"];
/// The longest value of an attribute (xattr(7)).
const LONGEST_VALUE: usize = 64 << 10;

/// Writes everything in the writable layer `upper` to a tar, but for the `skipped` paths (absolute, in the container).
/// Returns what was deleted, as absolute paths. Nothing may write to the layer meanwhile.
pub(super) fn write(
    upper: &Path,
    lower: &[PathBuf],
    skipped: &[PathBuf],
    to: impl Write,
) -> Result<Vec<PathBuf>> {
    let mut walk = Walk {
        upper,
        lower,
        skipped,
        tar: tar::Builder::new(BufWriter::new(to)),
        links: HashMap::new(),
        deleted: Vec::new(),
    };
    walk.root().io("archive", upper)?;
    walk.folder(Path::new(""))?;
    let done = walk.tar.into_inner().and_then(|mut out| out.flush());
    done.io("write", "rootfs-diff.tar")?;
    Ok(walk.deleted)
}

struct Walk<'a, W: Write> {
    upper: &'a Path,
    lower: &'a [PathBuf],
    skipped: &'a [PathBuf],
    tar: tar::Builder<BufWriter<W>>,
    /// Names that were written of files with several.
    links: HashMap<(u64, u64), PathBuf>,
    deleted: Vec<PathBuf>,
}

impl<W: Write> Walk<'_, W> {
    /// The root itself, by the only name with which CRI-O doesn't pass it over: its store gives root folders another mode,
    /// and criu wants the one that was.
    fn root(&mut self) -> io::Result<()> {
        let mut header = header(&fs::metadata(self.upper)?);
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        // not by `set_path`, which takes relative paths alone
        if let Some(name) = header.as_old_mut().name.first_mut() {
            *name = b'/';
        }
        header.set_cksum();
        self.tar.append(&header, io::empty())
    }

    /// A folder below the layer's root; `inside` is relative.
    fn folder(&mut self, inside: &Path) -> Result<()> {
        let path = self.upper.join(inside);
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(&path).io("read folder", &path)? {
            names.push(entry.io("read folder", &path)?.file_name());
        }
        names.sort();
        for name in &names {
            self.entry(&inside.join(name))?;
        }
        if is_opaque(&path) {
            self.hidden(inside, &names.into_iter().collect())?;
        }
        Ok(())
    }

    fn entry(&mut self, inside: &Path) -> Result<()> {
        if self
            .skipped
            .iter()
            .any(|skipped| *skipped == Path::new("/").join(inside))
        {
            return Ok(());
        }
        let path = self.upper.join(inside);
        let about = fs::symlink_metadata(&path).io("stat", &path)?;
        let kind = about.file_type();
        if kind.is_char_device() && about.rdev() == 0 {
            self.deleted.push(Path::new("/").join(inside));
            return Ok(());
        }
        if kind.is_socket() {
            // nothing can be made of it but by whoever listens
            return Ok(());
        }
        self.append(inside, &path, &about).io("archive", &path)?;
        if kind.is_dir() {
            self.folder(inside)?;
        }
        Ok(())
    }

    fn append(&mut self, inside: &Path, path: &Path, about: &Metadata) -> io::Result<()> {
        let kind = about.file_type();
        let mut header = header(about);
        self.tar.append_pax_extensions(
            attributes(path)?
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice())),
        )?;
        let several = !kind.is_dir() && about.nlink() > 1;
        if several && let Some(first) = self.links.get(&(about.dev(), about.ino())) {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            return self.tar.append_link(&mut header, inside, first.clone());
        }
        if several {
            self.links.insert((about.dev(), about.ino()), inside.to_owned());
        }
        if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(about.len());
            let file = File::open(path)?;
            return self.tar.append_data(&mut header, inside, file);
        }
        header.set_size(0);
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.tar.append_link(&mut header, inside, fs::read_link(path)?);
        }
        header.set_entry_type(match () {
            () if kind.is_dir() => EntryType::Directory,
            () if kind.is_fifo() => EntryType::Fifo,
            () if kind.is_block_device() => EntryType::Block,
            () => EntryType::Char,
        });
        if kind.is_block_device() || kind.is_char_device() {
            header
                .set_device_major(u32::try_from(nix::sys::stat::major(about.rdev())).unwrap_or(u32::MAX))?;
            header
                .set_device_minor(u32::try_from(nix::sys::stat::minor(about.rdev())).unwrap_or(u32::MAX))?;
        }
        self.tar.append_data(&mut header, inside, io::empty())
    }

    /// What the layers below have in a folder that hides them.
    fn hidden(&mut self, inside: &Path, kept: &BTreeSet<OsString>) -> Result<()> {
        let below = detached_overlay(&Overlay {
            lower: self.lower.to_vec(),
            ..Overlay::default()
        })?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(folder) = open_in_root(below.as_fd(), inside, flags) else {
            return Ok(());
        };
        let mut folder = nix::dir::Dir::from_fd(folder)
            .map_err(io::Error::from)
            .io("read folder", inside)?;
        for entry in folder.iter() {
            let entry = entry.map_err(io::Error::from).io("read folder", inside)?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if name.as_bytes() != b"." && name.as_bytes() != b".." && !kept.contains(&name) {
                self.deleted.push(Path::new("/").join(inside).join(name));
            }
        }
        Ok(())
    }
}

fn header(about: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(about.mode() & 0o7777);
    header.set_uid(about.uid().into());
    header.set_gid(about.gid().into());
    header.set_mtime(u64::try_from(about.mtime()).unwrap_or(0));
    header
}

fn attributes(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut buffer = vec![0; LONGEST_VALUE];
    let length = match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names: Vec<String> = buffer[..length]
        .split(|byte| *byte == 0)
        .filter_map(|name| String::from_utf8(name.to_vec()).ok())
        .filter(|name| ATTRIBUTES.iter().any(|known| name.starts_with(known)))
        .collect();
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        let length = rustix::fs::lgetxattr(path, name.as_str(), &mut buffer[..])?;
        all.push((format!("SCHILY.xattr.{name}"), buffer[..length].to_vec()));
    }
    Ok(all)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 4];
    rustix::fs::lgetxattr(path, OPAQUE, &mut value[..]).is_ok_and(|length| length == 1 && value[0] == b'y')
}
