//! The format, the cutting of lines however they arrive, rotation, and a disk that is full.

use std::fs;
use std::path::Path;

use super::*;
use crate::protocol::LogTarget;

fn target(path: &Path, max_line: usize) -> LogTarget {
    LogTarget {
        max_line,
        ..LogTarget::new(path)
    }
}

/// The records of `pieces` arriving one after the other, as `P:content` or `F:content`.
fn cut(max: usize, strip_cr: bool, pieces: &[&[u8]]) -> Vec<String> {
    let mut lines = Lines::new(max, strip_cr);
    let mut records = Vec::new();
    let mut emit = |tag, head: &[u8], tail: &[u8]| {
        let tag = if tag == Tag::Full { 'F' } else { 'P' };
        records.push(format!(
            "{tag}:{}",
            String::from_utf8_lossy(&[head, tail].concat())
        ));
    };
    for piece in pieces {
        lines.feed(piece, &mut emit);
    }
    lines.finish(&mut emit);
    records
}

#[test]
fn times_are_those_of_the_calendar() {
    let mut stamp = Stamp::default();
    for (nanos, text) in [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1_763_737_200_123_456_789, "2025-11-21T15:00:00.123456789Z"),
        (1_709_164_800_000_000_001, "2024-02-29T00:00:00.000000001Z"),
        (951_868_799_999_999_999, "2000-02-29T23:59:59.999999999Z"),
        (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        (1_767_225_599_000_000_000, "2025-12-31T23:59:59.000000000Z"),
    ] {
        assert_eq!(std::str::from_utf8(stamp.format(nanos)).unwrap(), text);
    }
}

#[test]
fn lines_are_cut_the_same_however_they_arrive() {
    let input = b"one\n\ntwo two\nlonger than ten bytes\nexactly 10\nexactly twenty bytes\nno end";
    let expected = [
        "F:one",
        "F:",
        "F:two two",
        "P:longer tha",
        "P:n ten byte",
        "F:s",
        "F:exactly 10",
        "P:exactly tw",
        "F:enty bytes",
        "P:no end",
    ];
    for size in 1..=input.len() {
        let pieces: Vec<&[u8]> = input.chunks(size).collect();
        assert_eq!(cut(10, false, &pieces), expected, "pieces of {size}");
    }
}

#[test]
fn a_terminals_cr_goes_and_any_other_stays() {
    let input = b"ab\r\n\r\ncd\rx\r\nexactly 10\r\n12345678901\r\nend\r";
    let stripped = [
        "F:ab",
        "F:",
        "F:cd\rx",
        "F:exactly 10",
        "P:1234567890",
        "F:1",
        "P:end\r",
    ];
    let kept = [
        "F:ab\r",
        "F:\r",
        "F:cd\rx\r",
        "P:exactly 10",
        "F:\r",
        "P:1234567890",
        "F:1\r",
        "P:end\r",
    ];
    for size in 1..=input.len() {
        let pieces: Vec<&[u8]> = input.chunks(size).collect();
        assert_eq!(cut(10, true, &pieces), stripped, "pieces of {size}");
        assert_eq!(cut(10, false, &pieces), kept, "pieces of {size}");
    }
}

#[test]
fn a_line_without_an_end_is_held_up_to_its_length_only() {
    let mut lines = Lines::new(100, false);
    let mut partial = 0;
    for _ in 0..1000 {
        lines.feed(&[b'x'; 77], |tag, head, tail| {
            assert_eq!((tag, head.len() + tail.len()), (Tag::Partial, 100));
            partial += 1;
        });
    }
    assert_eq!(partial, 769); // the last 100 bytes of 77,000 may still turn out to be a full record
}

#[test]
fn records_are_in_the_cri_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pods/x/0.log");
    let mut log = ContainerLog::open(Some(&target(&path, 4)), false).unwrap();
    let mut batch = Batch::default();
    assert!(
        log.write(Stream::Stdout, b"hello\n\xff\n\nab", 1_500_000_000, &mut batch)
            .is_none()
    );
    assert!(
        log.write(Stream::Stderr, b"err\n", 2_000_000_000, &mut batch)
            .is_none()
    );
    assert!(log.finish(Stream::Stdout, 3_000_000_000, &mut batch).is_none());
    assert!(log.finish(Stream::Stderr, 3_000_000_000, &mut batch).is_none());
    let expected = b"1970-01-01T00:00:01.500000000Z stdout P hell\n\
        1970-01-01T00:00:01.500000000Z stdout F o\n\
        1970-01-01T00:00:01.500000000Z stdout F \xff\n\
        1970-01-01T00:00:01.500000000Z stdout F \n\
        1970-01-01T00:00:02.000000000Z stderr F err\n\
        1970-01-01T00:00:03.000000000Z stdout P ab\n";
    assert_eq!(fs::read(&path).unwrap(), expected);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_log_is_appended_to_and_never_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, "from before\n").unwrap();
    let mut log = ContainerLog::open(Some(&target(&path, 100)), false).unwrap();
    log.write(Stream::Stdout, b"new\n", 0, &mut Batch::default());
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("from before\n") && text.ends_with(" stdout F new\n"),
        "{text}"
    );
}

#[test]
fn after_a_rotation_the_new_file_exists_at_once_and_gets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
    let mut log = ContainerLog::open(Some(&target(&path, 100)), false).unwrap();
    let mut batch = Batch::default();
    log.write(Stream::Stdout, b"one\nhal", 0, &mut batch);
    fs::rename(&path, &old).unwrap();
    log.write(Stream::Stdout, b"f\n", 0, &mut batch);
    log.reopen().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    log.write(Stream::Stdout, b"two\n", 0, &mut batch);
    assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), 2);
    assert!(fs::read_to_string(&path).unwrap().ends_with("stdout F two\n"));
}

#[test]
fn when_the_new_file_cannot_be_opened_the_old_one_stays_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
    let mut log = ContainerLog::open(Some(&target(&path, 100)), false).unwrap();
    fs::rename(&path, &old).unwrap();
    fs::create_dir(&path).unwrap();
    let error = log.reopen().unwrap_err().to_string();
    assert!(error.contains("0.log"), "{error}");
    log.write(Stream::Stdout, b"on\n", 0, &mut Batch::default());
    assert!(fs::read_to_string(&old).unwrap().ends_with("stdout F on\n"));
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    for path in [&fifo, &link, &dir.path().join("link/x")] {
        let error = ContainerLog::open(Some(&target(path, 100)), false).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn without_a_target_everything_is_discarded() {
    let mut log = ContainerLog::open(None, false).unwrap();
    assert!(
        log.write(Stream::Stdout, b"gone\n", 0, &mut Batch::default())
            .is_none()
    );
    log.reopen().unwrap();
}

/// A file system of a few KiB, gone with its folder; needs root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        nix::mount::mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(&*options),
        )
        .unwrap();
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_costs_whole_records_which_are_counted() {
    const SECOND: i64 = 1_000_000_000;
    let disk = SmallDisk::new("64k");
    let path = disk.0.path().join("0.log");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, [0; 32 * 1024]).unwrap();
    let mut log = ContainerLog::open(Some(&target(&path, 100)), false).unwrap();
    let mut batch = Batch::default();
    let hundred: Vec<u8> = (0..100).flat_map(|_| [&[b'x'; 99][..], b"\n"].concat()).collect();
    let mut errors = Vec::new();
    for second in 0..10 {
        errors.extend(log.write(Stream::Stdout, &hundred, second * SECOND, &mut batch));
    }
    assert_eq!(errors.len(), 1, "told once: {errors:?}");
    assert!(
        errors[0].to_string().contains("no space left on device"),
        "{}",
        errors[0]
    );
    let full = fs::read_to_string(&path).unwrap();
    assert!(full.ends_with("x\n"), "the file ends with a whole record");
    let kept = full.lines().filter(|line| line.ends_with('x')).count();
    assert!(
        full.lines()
            .all(|line| line.len() == 40 + 99 || line.contains("pintle:"))
    );

    fs::remove_file(&ballast).unwrap();
    assert!(
        log.write(Stream::Stdout, b"back\n", 20 * SECOND, &mut batch)
            .is_none()
    );
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with(" stdout F back\n"), "{text}");
    let lost: usize = text
        .lines()
        .filter_map(|line| {
            line.split("stderr F pintle: ")
                .nth(1)?
                .split(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum();
    assert_eq!(kept + lost, 1000);
}
