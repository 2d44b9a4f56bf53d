//! SELinux labels of files: of volumes that their owner wants a container to reach.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};

use super::resolve::{is_kind, open_path};
use crate::error::{Context, Error, Result};
use crate::sys::xattr;

/// The attribute that SELinux keeps its label in.
const LABEL: &CStr = c"security.selinux";

/// Folders within folders that are gone into.
const MAX_DEPTH: u32 = 256;

/// Folders of the host that no container may be given by a change of labels: it would lock the host out of them.
const PROTECTED: [&str; 19] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/opt", "/proc", "/root",
    "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var",
];

/// Gives a file, or a folder with all that is in it, this label, unless it has it already.
///
/// # Errors
/// A folder of the host's that must keep its label; what the kernel refuses. A file system without labels is passed
/// over, as its files have that of the mount.
pub fn relabel(path: &Path, label: &str) -> Result<()> {
    if PROTECTED.iter().any(|protected| path == Path::new(protected)) {
        return Err(Error::invalid(
            "selinux_relabel",
            format!("{} must keep its label", path.display()),
        ));
    }
    relabel_as(LABEL, path, label)
}

fn relabel_as(name: &CStr, path: &Path, label: &str) -> Result<()> {
    if xattr::get(path, name)
        .path("read label of", path)?
        .is_some_and(|l| is_label(&l, label))
    {
        return Ok(());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat(open_path(path)?, ".", flags, Mode::empty()) {
        Ok(folder) => below(name, folder, label, MAX_DEPTH).map_err(|e| at(path, e))?,
        Err(Errno::ENOTDIR) => {}
        Err(e) => return Err(e).path("open", path),
    }
    // last, since it stands for all that lies below: whoever is interrupted begins anew
    set(name, path, label)
}

fn is_label(value: &[u8], label: &str) -> bool {
    value.strip_suffix(b"\0").unwrap_or(value) == label.as_bytes()
}

fn below(name: &CStr, folder: OwnedFd, label: &str, depth: u32) -> Result<()> {
    if depth == 0 {
        return Err(Error::sys("relabel: folders nest too deep", Errno::ELOOP));
    }
    let mut folder = Dir::from_fd(folder).call("list folder to relabel")?;
    let mut names = Vec::new();
    for entry in folder.iter() {
        let entry = entry.call("list folder to relabel")?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    let base = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    for entry in &names {
        let st = match fstatat(folder.as_fd(), entry.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            // its owner goes on working in it
            Err(Errno::ENOENT) => continue,
            other => other.call("stat file to relabel")?,
        };
        if is_kind(&st, SFlag::S_IFDIR) {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match openat(folder.as_fd(), entry.as_c_str(), flags, Mode::empty()) {
                Ok(inner) => below(name, inner, label, depth - 1)?,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                Err(e) => return Err(e).call("open folder to relabel"),
            }
        }
        set(
            name,
            &base.join(std::ffi::OsStr::from_bytes(entry.to_bytes())),
            label,
        )?;
    }
    Ok(())
}

fn set(name: &CStr, path: &Path, label: &str) -> Result<()> {
    match xattr::set(path, name, label.as_bytes()) {
        // no labels here, or gone meanwhile
        Err(Errno::EOPNOTSUPP | Errno::ENOENT) => Ok(()),
        other => other.call("set label"),
    }
}

fn at(path: &Path, error: Error) -> Error {
    match error {
        Error::Sys { call, errno } => Error::io(call, path, errno),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    // one that every file system of a test has, for symlinks as well
    const NAME: &CStr = c"trusted.pintle-test";

    fn label(path: &Path) -> Option<String> {
        let value = xattr::get(path, NAME).unwrap()?;
        Some(String::from_utf8(value).unwrap())
    }

    #[test]
    fn a_tree_is_labelled_and_symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        relabel_as(NAME, &tree, "x:y:z:s0:c1,c2").unwrap();
        for path in ["", "a", "a/b", "a/b/file", "a/link"] {
            assert_eq!(
                label(&tree.join(path)).as_deref(),
                Some("x:y:z:s0:c1,c2"),
                "{path}"
            );
        }
        assert_eq!(label(&outside), None);
        relabel_as(NAME, &tree.join("a/b/file"), "other").unwrap();
        assert_eq!(label(&tree.join("a/b/file")).as_deref(), Some("other"));
    }

    #[test]
    fn what_is_labelled_already_is_not_walked_again() {
        let dir = tempfile::tempdir().unwrap();
        relabel_as(NAME, dir.path(), "one").unwrap();
        fs::write(dir.path().join("new"), "").unwrap();
        relabel_as(NAME, dir.path(), "one").unwrap();
        assert_eq!(label(&dir.path().join("new")), None);
        relabel_as(NAME, dir.path(), "two").unwrap();
        assert_eq!(label(&dir.path().join("new")).as_deref(), Some("two"));
    }

    #[test]
    fn folders_of_the_host_keep_theirs() {
        let e = relabel(Path::new("/usr"), "x").unwrap_err().to_string();
        assert_eq!(e, "selinux_relabel: /usr must keep its label");
        assert!(is_label(b"a:b\0", "a:b") && !is_label(b"a:b:c", "a:b"));
    }
}
