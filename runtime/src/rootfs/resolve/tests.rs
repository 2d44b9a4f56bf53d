//! Escapes that must stay inside, and folders that must be made.

use std::os::unix::fs::symlink;

use super::*;

fn root() -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let fd = open_path(dir.path()).unwrap();
    (dir, fd)
}

#[test]
fn symlinks_and_dots_stay_inside() {
    let (dir, fd) = root();
    symlink("/etc", dir.path().join("abs")).unwrap();
    symlink("../../../../../../etc", dir.path().join("rel")).unwrap();
    for path in ["/abs/passwd", "/rel/passwd", "/../../etc/passwd"] {
        let e = open_in_root(fd.as_fd(), Path::new(path), OFlag::O_RDONLY).unwrap_err();
        assert_eq!(e.errno(), Some(Errno::ENOENT), "{path}");
    }
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(dir.path().join("etc/passwd"), "mine").unwrap();
    for path in ["/abs/passwd", "/rel/passwd", "/../../etc/passwd"] {
        assert_eq!(
            read_in_root(fd.as_fd(), Path::new(path), 100).unwrap(),
            b"mine",
            "{path}"
        );
    }
}

#[test]
fn folders_and_files_are_made_inside() {
    let (dir, fd) = root();
    symlink("/made/by/link", dir.path().join("link")).unwrap();
    let place = ensure_folder(fd.as_fd(), Path::new("/link/deep")).unwrap();
    assert!(place.created);
    assert!(dir.path().join("made/by/link/deep").is_dir());
    symlink("/elsewhere/file", dir.path().join("dangling")).unwrap();
    assert!(ensure_file(fd.as_fd(), Path::new("/dangling")).unwrap().created);
    assert!(dir.path().join("elsewhere/file").is_file());
    assert!(!ensure_file(fd.as_fd(), Path::new("/dangling")).unwrap().created);
}

#[test]
fn symlink_loops_end() {
    let (dir, fd) = root();
    symlink("/b", dir.path().join("a")).unwrap();
    symlink("/a", dir.path().join("b")).unwrap();
    assert!(ensure_folder(fd.as_fd(), Path::new("/a/x")).is_err());
    assert!(ensure_file(fd.as_fd(), Path::new("/a")).is_err());
    // each leads on to a longer one that doesn't exist
    symlink("/c/c", dir.path().join("c")).unwrap();
    assert!(ensure_folder(fd.as_fd(), Path::new("/c")).is_err());
}

#[test]
fn a_fifo_does_not_hang_a_reader() {
    let (dir, fd) = root();
    nix::unistd::mkfifo(&dir.path().join("passwd"), Mode::S_IRWXU).unwrap();
    assert!(read_in_root(fd.as_fd(), Path::new("/passwd"), 100).is_err());
}
