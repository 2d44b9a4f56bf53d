//! The environment, HOME out of the container's passwd, and finding the program in PATH.

use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::Process;

use crate::error::{Error, ExecError, Result};
use crate::rootfs::read_in_root;
use crate::sys::process::execve;

/// A passwd file is read up to this size; real ones have a few KiB.
const MAX_PASSWD: u64 = 1 << 20;

/// Where programs are looked for if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment as execve takes it: of a name that is given twice the last counts, and HOME is never empty.
pub(super) fn prepare(given: &[String], uid: u32, root: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut entries: Vec<&str> = Vec::with_capacity(given.len() + 1);
    for (i, entry) in given.iter().enumerate() {
        if entry.contains('\0') {
            return Err(Error::invalid(format!("process.env[{i}]"), "holds a NUL"));
        }
        // the last of a name wins, and keeps the place of the first
        match entries.iter_mut().find(|e| name(e) == name(entry)) {
            Some(earlier) => *earlier = entry,
            None => entries.push(entry),
        }
    }
    let home;
    if !entries
        .iter()
        .any(|e| e.strip_prefix("HOME=").is_some_and(|h| !h.is_empty()))
    {
        entries.retain(|e| name(e) != "HOME");
        home = format!("HOME={}", home_of(uid, root));
        entries.push(&home);
    }
    Ok(entries.into_iter().filter_map(|e| CString::new(e).ok()).collect())
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or(entry)
}

/// The home folder of a user; `/` if the container doesn't know it.
fn home_of(uid: u32, root: BorrowedFd<'_>) -> String {
    let passwd = read_in_root(root, Path::new("/etc/passwd"), MAX_PASSWD).unwrap_or_default();
    String::from_utf8_lossy(&passwd)
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && fields[2].parse() == Ok(uid))
        .map(|fields| fields[5].to_owned())
        .filter(|home| !home.is_empty() && !home.contains('\0'))
        .unwrap_or_else(|| "/".to_owned())
}

/// Whether there is a program of that name, as [`exec`] would look for it, in the caller's root. What else may be wrong
/// with it only execve tells.
pub(super) fn check(process: &Process) -> std::result::Result<(), ExecError> {
    let program = process
        .args()
        .iter()
        .flatten()
        .next()
        .cloned()
        .unwrap_or_default();
    let look = |path: &Path| match access(path, AccessFlags::X_OK) {
        Ok(()) if path.is_dir() => Err(Errno::EACCES),
        other => other,
    };
    if program.contains('/') {
        return look(Path::new(&program)).map_err(|errno| ExecError::Failed { path: program, errno });
    }
    let env = process.env().iter().flatten().rev();
    let path = env.filter_map(|entry| entry.strip_prefix("PATH=")).next();
    let folders = path
        .unwrap_or(DEFAULT_PATH)
        .split(':')
        .filter(|folder| !folder.is_empty());
    let mut denied = false;
    for folder in folders {
        match look(&Path::new(folder).join(&program)) {
            Ok(()) => return Ok(()),
            Err(errno) => denied |= errno == Errno::EACCES,
        }
    }
    match denied {
        true => Err(ExecError::Failed {
            path: program,
            errno: Errno::EACCES,
        }),
        false => Err(ExecError::NotInPath(program)),
    }
}

/// Becomes the program; returns only if that failed. A name without a slash is looked for in the PATH that the program
/// is going to have.
pub(super) fn exec(args: &[CString], env: &[CString]) -> ExecError {
    let Some(program) = args.first() else {
        return ExecError::NotInPath(String::new());
    };
    let shown = program.to_string_lossy().into_owned();
    if program.as_bytes().contains(&b'/') {
        return ExecError::Failed {
            path: shown,
            errno: execve(program, args, env),
        };
    }
    let path = env.iter().find_map(|e| e.as_bytes().strip_prefix(b"PATH="));
    let mut denied = false;
    for folder in path.unwrap_or(DEFAULT_PATH.as_bytes()).split(|b| *b == b':') {
        // an empty entry means the working folder, which shells no longer trust either
        if folder.is_empty() || program.as_bytes().is_empty() {
            continue;
        }
        let file = Path::new(OsStr::from_bytes(folder)).join(OsStr::from_bytes(program.as_bytes()));
        let Ok(file) = CString::new(file.as_os_str().as_bytes()) else {
            continue;
        };
        match execve(&file, args, env) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => denied = true,
            errno => return ExecError::Failed { path: shown, errno },
        }
    }
    match denied {
        true => ExecError::Failed {
            path: shown,
            errno: Errno::EACCES,
        },
        false => ExecError::NotInPath(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn prepared(given: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nbad\nu:x:7:7::/home/u:/bin/sh\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let given: Vec<String> = given.iter().map(|&s| s.to_owned()).collect();
        let env = prepare(&given, 7, root.as_fd()).unwrap();
        env.into_iter().map(|e| e.into_string().unwrap()).collect()
    }

    #[test]
    fn the_last_of_a_name_wins_and_home_is_found() {
        assert_eq!(prepared(&["A=1", "B=2", "A=3"]), ["A=3", "B=2", "HOME=/home/u"]);
        assert_eq!(prepared(&["HOME=", "A=1"]), ["A=1", "HOME=/home/u"]);
        assert_eq!(prepared(&["HOME=/x"]), ["HOME=/x"]);
    }
}
