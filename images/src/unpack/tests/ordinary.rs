//! What honest layers hold.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::*;

#[test]
fn metadata_survives() {
    let layer = Layer::new();
    let capability = b"\x01\x00\x00\x02\x0a\x20\x00\x0a\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x00";
    let archive = Archive::new()
        .raw(b'5', b"./", b"", |header| header.set_mode(0o1751))
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("uid", b"70000"),
            ("mtime", b"1234.5"),
        ])
        .raw(b'0', b"bin/tool", b"#!", |header| header.set_mode(0o4755))
        .raw(b'5', b"bin", b"", |header| {
            header.set_mode(0o2750);
            header.set_uid(5);
            header.set_gid(6);
            header.set_mtime(77);
        })
        .pax(&[
            ("SCHILY.xattr.user.color", b"blue"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .file("plain", "x");
    let unpacked = layer.unpack(archive).unwrap();
    assert_eq!(
        unpacked.root,
        Some(RootAttributes {
            mode: 0o1751,
            uid: 0,
            gid: 0
        })
    );
    let tool = layer.stat("bin/tool");
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid()), (0o4755, 70000, 0));
    assert_eq!((tool.mtime(), tool.mtime_nsec()), (1234, 500_000_000));
    assert_eq!(
        layer.xattr("bin/tool", "security.capability").as_deref(),
        Some(&capability[..])
    );
    let bin = layer.stat("bin");
    assert_eq!(
        (bin.mode() & 0o7777, bin.uid(), bin.gid(), bin.mtime()),
        (0o2750, 5, 6, 77)
    );
    assert_eq!(layer.xattr("plain", "user.color").as_deref(), Some(&b"blue"[..]));
    assert_eq!(layer.xattr("plain", "trusted.overlay.redirect"), None);
    assert_eq!(unpacked.inodes, 4);
    assert_eq!(unpacked.bytes, 4 * 4096);
}

#[test]
fn every_kind_of_object() {
    let layer = Layer::new();
    let device = |header: &mut tar::Header| {
        header.set_device_major(1).unwrap();
        header.set_device_minor(5).unwrap();
    };
    let archive = Archive::new()
        .folder("d/")
        .file("d/f", "content")
        .symlink("d/absolute", "/etc/passwd")
        .hard_link("hard", "./d/f")
        .hard_link("hard2", "/d/f")
        .hard_link("hardsym", "d/absolute")
        .raw(b'3', b"zero", b"", device)
        .raw(b'4', b"disk", b"", device)
        .raw(b'6', b"pipe", b"", |_| ())
        .raw(b'g', b"pax_global_header", b"14 comment=abc\n", |_| ())
        .raw(0, b"old/", b"", |_| ());
    let unpacked = layer.unpack(archive).unwrap();
    assert_eq!(fs::read_to_string(layer.path("hard")).unwrap(), "content");
    assert_eq!(layer.stat("hard").nlink(), 3);
    assert_eq!(
        fs::read_link(layer.path("hardsym")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(layer.stat("d/absolute").mtime(), 1_000_000_000);
    assert!(layer.stat("zero").file_type().is_char_device());
    assert_eq!(layer.stat("zero").rdev(), rustix::fs::makedev(1, 5));
    assert!(layer.stat("disk").file_type().is_block_device());
    assert!(layer.stat("pipe").file_type().is_fifo());
    assert!(layer.stat("old").is_dir());
    assert!(!layer.path("pax_global_header").exists());
    assert_eq!(unpacked.inodes, 8);
}

#[test]
fn names_of_all_kinds() {
    let layer = Layer::new();
    let long: String = ["component-"; 30].join("/") + "/" + &"n".repeat(200);
    let archive = Archive::new()
        .long_name(long.as_bytes())
        .file("short", "gnu")
        .pax(&[("path", b"pax/new\nline")])
        .file("short", "pax")
        .pax(&[("linkpath", b"pax/new\nline")])
        .hard_link("linked", "nothing")
        .raw(b'0', b"bytes-\xff\xfe", b"raw", |_| ())
        .file("/absolute/name", "stripped");
    layer.unpack(archive).unwrap();
    assert_eq!(fs::read_to_string(layer.path(&long)).unwrap(), "gnu");
    assert_eq!(fs::read_to_string(layer.path("pax/new\nline")).unwrap(), "pax");
    assert_eq!(fs::read_to_string(layer.path("linked")).unwrap(), "pax");
    let bytes = layer.path("").join(OsStr::from_bytes(b"bytes-\xff\xfe"));
    assert_eq!(fs::read_to_string(bytes).unwrap(), "raw");
    assert_eq!(
        fs::read_to_string(layer.path("absolute/name")).unwrap(),
        "stripped"
    );
    assert!(!layer.path("short").exists());
    layer.assert_contained();
}

#[test]
fn whiteouts_become_overlays_own() {
    let layer = Layer::new();
    let archive = Archive::new()
        .file("etc/.wh.gone", "")
        .folder("opaque/")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "new")
        .file("implied/.wh..wh..opq", "")
        .file(".wh..wh.plnk/1.2", "aufs");
    let unpacked = layer.unpack(archive).unwrap();
    assert!(layer.is_whiteout("etc/gone"));
    assert!(layer.is_opaque("opaque") && layer.is_opaque("implied"));
    assert!(!layer.path(".wh..wh.plnk").exists() && !layer.path("opaque/.wh..wh..opq").exists());
    assert!(!unpacked.opaque_root);
}

#[test]
fn whiteouts_hold_for_lower_layers_only() {
    let layer = Layer::new();
    let archive = Archive::new()
        .file(".wh.file-after", "")
        .file("file-after", "kept")
        .file("file-before", "kept")
        .file(".wh.file-before", "")
        .file(".wh.folder-after", "")
        .folder("folder-after/")
        .folder("folder-before/")
        .file(".wh.folder-before", "")
        .file(".wh.implied", "")
        .file("implied/inside", "kept")
        .file(".wh..wh..opq", "");
    let unpacked = layer.unpack(archive).unwrap();
    for file in ["file-after", "file-before", "implied/inside"] {
        assert_eq!(fs::read_to_string(layer.path(file)).unwrap(), "kept", "{file}");
    }
    for folder in ["folder-after", "folder-before", "implied"] {
        assert!(layer.is_opaque(folder), "{folder}");
    }
    assert!(unpacked.opaque_root);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let layer = Layer::new();
    let archive = Archive::new()
        .file("a", "first")
        .file("a", "second")
        .folder("tree/")
        .file("tree/inside", "x")
        .file("tree", "now a file")
        .file("b", "file")
        .folder("b/")
        .file("b/c", "below")
        .symlink("s", "a")
        .file("s", "no longer a link")
        .folder("kept/")
        .file("kept/x", "x")
        .raw(b'5', b"kept", b"", |header| header.set_mode(0o700));
    layer.unpack(archive).unwrap();
    assert_eq!(fs::read_to_string(layer.path("a")).unwrap(), "second");
    assert_eq!(fs::read_to_string(layer.path("tree")).unwrap(), "now a file");
    assert_eq!(fs::read_to_string(layer.path("b/c")).unwrap(), "below");
    assert_eq!(fs::read_to_string(layer.path("s")).unwrap(), "no longer a link");
    assert_eq!(layer.stat("kept").mode() & 0o7777, 0o700);
    assert!(layer.path("kept/x").exists());
}

#[test]
fn links_inside_the_layer_are_followed() {
    let layer = Layer::new();
    let archive = Archive::new()
        .folder("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("lib/libc.so", "elf")
        .symlink("usr/up", "../usr/lib")
        .file("usr/up/libm.so", "elf");
    layer.unpack(archive).unwrap();
    assert!(layer.path("usr/lib/libc.so").exists() && layer.path("usr/lib/libm.so").exists());
}

#[test]
fn sparse_files_keep_their_holes() {
    let layer = Layer::new();
    let mut map = b"2\n0\n3\n1048576\n4\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"abcdefg");
    let in_content: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"pax1"),
        ("GNU.sparse.realsize", b"2097152"),
    ];
    let in_records: [(&str, &[u8]); 3] = [
        ("GNU.sparse.map", b"0,3,1048576,4"),
        ("GNU.sparse.size", b"2097152"),
        ("GNU.sparse.name", b"pax01"),
    ];
    let archive = Archive::new()
        .pax(&in_content)
        .raw(b'0', b"GNUSparseFile.0/pax1", &map, |_| ())
        .pax(&in_records)
        .raw(b'0', b"GNUSparseFile.0/pax01", b"abcdefg", |_| ())
        .raw(b'S', b"gnu", b"abcdefg", |header| {
            let gnu = header.as_gnu_mut().unwrap();
            let pieces = [("0", "1000"), ("0", "0"), ("10000000", "7")];
            for (place, (offset, length)) in gnu.sparse.iter_mut().zip([pieces[1], pieces[2]]) {
                place.offset[..offset.len()].copy_from_slice(offset.as_bytes());
                place.numbytes[..length.len()].copy_from_slice(length.as_bytes());
            }
            gnu.realsize[..8].copy_from_slice(b"10000007");
        })
        .file("after", "still in step");
    let unpacked = layer.unpack(archive).unwrap();
    for name in ["pax1", "pax01"] {
        let content = fs::read(layer.path(name)).unwrap();
        assert_eq!(
            (content.len(), &content[..3], &content[1_048_576..1_048_580]),
            (2 << 20, &b"abc"[..], &b"defg"[..])
        );
        assert!(layer.stat(name).blocks() < 64, "{name} has holes");
    }
    let gnu = fs::read(layer.path("gnu")).unwrap();
    assert_eq!((gnu.len(), &gnu[2 << 20..]), ((2 << 20) + 7, &b"abcdefg"[..]));
    assert!(layer.stat("gnu").blocks() < 64);
    assert_eq!(fs::read_to_string(layer.path("after")).unwrap(), "still in step");
    assert!(unpacked.bytes < 100_000);
}

#[test]
fn an_empty_stream_is_an_empty_layer() {
    let layer = Layer::new();
    assert_eq!(layer.unpack_limited(b"", 1024).unwrap().inodes, 1);
    assert_eq!(layer.unpack(Archive::new()).unwrap().root, None);
}

#[test]
fn many_folders_and_files() {
    let layer = Layer::new();
    let mut archive = Archive::new();
    for i in 0..2000 {
        archive = archive.file(&format!("d{}/e{}/f{i}", i % 50, i % 7), "x");
    }
    let unpacked = layer.unpack(archive).unwrap();
    assert_eq!(unpacked.inodes, 1 + 50 + 350 + 2000);
}
