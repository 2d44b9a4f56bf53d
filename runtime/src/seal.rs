//! Protection of the program file of whoever makes containers (CVE-2019-5736).
//!
//! Until a container's process executes its own program, it runs ours, and `/proc/<pid>/exe` leads there from inside. A
//! container can also ask for `/proc/self/exe` as its program. Either way it would have a way to the host's file. So the
//! program executes itself once more, from a mount of its file that is attached nowhere and read-only for ever: no memory
//! is copied, and nobody can change such a mount's attributes, since no mount namespace has it.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{Context, Result};
use crate::sys::mount::{MountAttr, attr, clone_tree, set_attr};
use crate::sys::process::execute_file;

const OWN: &str = "/proc/self/exe";

/// Makes sure that the calling program can't be written to through its own processes: returns if it is so, else executes
/// it anew, with the same arguments and environment. Call this first thing in `main`.
///
/// # Errors
/// The program can neither be mounted read-only nor be copied.
pub fn protect_own_program() -> Result<()> {
    let own = File::open(OWN).path("open", OWN)?;
    if is_protected(own.as_fd())? {
        return Ok(());
    }
    let args = std::env::args_os().map(c_string).collect::<Vec<_>>();
    let env = std::env::vars_os()
        .map(|(key, value)| c_string([key, value].join("=".as_ref())))
        .collect::<Vec<_>>();
    let run = |file: OwnedFd| execute_file(file.as_fd(), &args, &env);
    let mounted = readonly_mount(own.as_fd()).and_then(|file| match is_protected(file.as_fd()) {
        Ok(true) => Err(run(file)),
        _ => Err(Errno::EROFS),
    });
    let Err::<(), _>(errno) = mounted else {
        return Ok(());
    };
    // without the right to mount: a copy in memory that is sealed
    let copy = sealed_copy(own).path("copy into memory (mounting it read-only failed)", OWN);
    match copy {
        Ok(file) => Err(run(file)).path("execute a copy of", OWN),
        Err(_) => Err(errno).path("execute from a read-only mount", OWN),
    }
}

/// A program that makes containers, for whoever starts it often: held by a mount that nobody can write through, so that
/// it need not execute itself once more. A file that takes its place on disk is not seen.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    mount: Option<Arc<OwnedFd>>,
}

impl Program {
    /// Holds the program at an absolute path. Without the right to mount it is started by its path, and protects itself.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn hold(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).path("open", &path)?;
        let mount = readonly_mount(file.as_fd()).ok().map(Arc::new);
        Ok(Self { path, mount })
    }

    /// Where the program was found.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path to execute it by, good while this value lives.
    #[must_use]
    pub fn executable(&self) -> PathBuf {
        match &self.mount {
            Some(mount) => format!("/proc/self/fd/{}", mount.as_raw_fd()).into(),
            None => self.path.clone(),
        }
    }
}

impl From<PathBuf> for Program {
    /// A program that is started by its path, and protects itself.
    fn from(path: PathBuf) -> Self {
        Self { path, mount: None }
    }
}

fn c_string(text: OsString) -> CString {
    // what the kernel handed over holds no NUL
    CString::new(text.into_vec()).unwrap_or_default()
}

fn is_protected(file: BorrowedFd<'_>) -> Result<bool> {
    if fstatvfs(file)
        .path("statvfs", OWN)?
        .flags()
        .contains(FsFlags::ST_RDONLY)
    {
        return Ok(true);
    }
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).unwrap_or(0);
    Ok(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

fn readonly_mount(file: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let mount = clone_tree(file, Path::new(""), false)?;
    let attrs = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    set_attr(mount.as_fd(), &attrs, false)?;
    Ok(mount)
}

fn sealed_copy(mut own: File) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create("program", flags)?);
    io::copy(&mut own, &mut copy)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_held_program_is_the_file_that_was_there_and_needs_no_second_execution() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/readlink", &path).unwrap();
        let program = Program::hold(path.clone()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(program.path(), path);
        let held = File::open(program.executable()).unwrap();
        assert!(is_protected(held.as_fd()).unwrap());
        let run = std::process::Command::new(program.executable())
            .arg("/proc/self/ns/uts")
            .output();
        assert!(run.unwrap().stdout.starts_with(b"uts:"));
    }

    #[test]
    fn both_forms_can_be_read_and_not_be_written() {
        let own = File::open(OWN).unwrap();
        assert!(
            !is_protected(own.as_fd()).unwrap(),
            "tests lie on a writable file system"
        );
        let mount = readonly_mount(own.as_fd()).unwrap();
        let copy = sealed_copy(own).unwrap();
        assert!(is_protected(copy.as_fd()).unwrap());
        assert!(File::from(copy).write(b"x").is_err());
        assert!(is_protected(mount.as_fd()).unwrap());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount));
        let e = File::options().write(true).open(path).unwrap_err();
        // This very program runs, which some kernels look at first.
        let refused = [Errno::EROFS as i32, Errno::ETXTBSY as i32];
        assert!(
            e.raw_os_error().is_some_and(|code| refused.contains(&code)),
            "{e}"
        );
    }
}
