//! What is taken from an archive, and what is refused.

use std::fs;

use super::*;

fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        // names as they are, also those that the crate would refuse to write
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpacked(bytes: &[u8]) -> (tempfile::TempDir, Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    fs::write(&path, bytes).unwrap();
    fs::create_dir_all(folder.path().join("into/checkpoint")).unwrap();
    let result = from_archive(&path, &folder.path().join("into"));
    (folder, result)
}

#[test]
fn only_plain_files_with_known_names_are_taken() {
    let file = EntryType::Regular;
    let (folder, result) = unpacked(&archive(&[
        ("config.dump", file, b"{}"),
        ("./checkpoint/core-1.img", file, b"x"),
        ("../escaped", file, b"x"),
        ("checkpoint/../../escaped", file, b"x"),
        ("/etc/escaped", file, b"x"),
        ("other", file, b"x"),
        ("checkpoint/a/b", file, b"x"),
    ]));
    result.unwrap();
    let into = folder.path().join("into");
    assert_eq!(fs::read(into.join("checkpoint/core-1.img")).unwrap(), b"x");
    let mut names: Vec<_> = fs::read_dir(&into)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["checkpoint", "config.dump"]);
    assert_eq!(fs::read_dir(into.join("checkpoint")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn links_doubles_and_cut_off_archives_are_refused() {
    let file = EntryType::Regular;
    let whole = archive(&[
        ("config.dump", file, b"{}"),
        ("checkpoint/pages-1.img", file, &[7; 5000]),
    ]);
    let mut lies = archive(&[("checkpoint/pages-1.img", file, &[7; 5000])]);
    // the size field of the first header: larger than all there is
    lies[124..136].copy_from_slice(b"77777777777\0");
    let sum: u32 = lies[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    lies[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    for (bytes, reason) in [
        (whole[..whole.len() - 1024].to_vec(), "cut off"),
        (whole[..2048].to_vec(), "cut off"),
        (Vec::new(), "cut off"),
        (lies, "cut off"),
        (
            archive(&[("checkpoint/x.img", EntryType::Symlink, b"")]),
            "not a plain file",
        ),
        (
            archive(&[("spec.dump", EntryType::Link, b"")]),
            "not a plain file",
        ),
        (
            archive(&[("spec.dump", EntryType::Fifo, b"")]),
            "not a plain file",
        ),
        (
            archive(&[("spec.dump", file, b"1"), ("spec.dump", file, b"2")]),
            "twice",
        ),
    ] {
        let error = unpacked(&bytes).1.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn compressed_archives_are_taken_whole_or_not_at_all() {
    let file = EntryType::Regular;
    let plain = archive(&[
        ("config.dump", file, b"{}"),
        ("checkpoint/pages-1.img", file, &[7; 5000]),
    ]);
    let gzip = |bytes: &[u8]| {
        use std::io::Write as _;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    for packed in [zstd::encode_all(&plain[..], 3).unwrap(), gzip(&plain)] {
        let (folder, result) = unpacked(&packed);
        result.unwrap();
        let pages = fs::read(folder.path().join("into/checkpoint/pages-1.img")).unwrap();
        assert_eq!(pages, [7; 5000]);
        for length in [packed.len() - 1, packed.len() / 2, 8] {
            assert!(unpacked(&packed[..length]).1.is_err(), "cut off after {length}");
        }
    }
    let large = archive(&[("checkpoint/pages-1.img", file, &vec![0; 8 << 20])]);
    for packed in [zstd::encode_all(&large[..], 19).unwrap(), gzip(&large)] {
        let error = unpacked(&packed).1.unwrap_err().to_string();
        assert!(error.contains("far more") || error.contains("cut off"), "{error}");
    }
}
