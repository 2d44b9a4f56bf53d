//! Tests of unpacking. They need root: devices, owners and trusted attributes are made for real.

mod archive;
mod hostile;
mod ordinary;

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::*;
use archive::Archive;

/// A layer's folder with something beside it that must stay as it is.
struct Layer {
    temp: tempfile::TempDir,
}

impl Layer {
    fn new() -> Layer {
        assert!(rustix_is_root(), "these tests need root");
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("layer")).unwrap();
        fs::create_dir(temp.path().join("outside")).unwrap();
        fs::write(temp.path().join("outside/secret"), "untouched").unwrap();
        Layer { temp }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join("layer").join(name)
    }

    fn outside(&self) -> PathBuf {
        self.temp.path().join("outside")
    }

    fn unpack(&self, archive: Archive) -> Result<Unpacked, LayerError> {
        self.unpack_limited(&archive.finish(), 1 << 30)
    }

    fn unpack_limited(&self, bytes: &[u8], limit: u64) -> Result<Unpacked, LayerError> {
        let root = File::open(self.path("")).unwrap();
        unpack(bytes, root.as_fd(), limit, None)
    }

    fn stat(&self, name: &str) -> fs::Metadata {
        self.path(name).symlink_metadata().unwrap()
    }

    fn is_whiteout(&self, name: &str) -> bool {
        let stat = self.stat(name);
        stat.file_type().is_char_device() && stat.rdev() == 0
    }

    fn xattr(&self, name: &str, key: &str) -> Option<Vec<u8>> {
        xattr(&self.path(name), key)
    }

    fn is_opaque(&self, name: &str) -> bool {
        self.xattr(name, dirs::OPAQUE_XATTR).as_deref() == Some(b"y")
    }

    /// What was outside is still there, and nothing else.
    fn assert_contained(&self) {
        assert_eq!(
            fs::read_to_string(self.outside().join("secret")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.temp.path()).unwrap().count(), 2);
    }
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn xattr(path: &Path, key: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, key, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}
