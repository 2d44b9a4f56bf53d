//! What hostile layers try.

use super::*;

/// Unpacks an archive that must be refused, and gives back why; nothing outside has changed.
fn refused(archive: Archive) -> (String, EntryError) {
    let layer = Layer::new();
    let error = layer.unpack(archive).unwrap_err();
    layer.assert_contained();
    match error {
        LayerError::Entry { name, reason } => (name, reason),
        other => panic!("{other}"),
    }
}

fn system_error(archive: Archive) -> LayerError {
    let layer = Layer::new();
    let error = layer.unpack(archive).unwrap_err();
    layer.assert_contained();
    error
}

#[test]
fn names_that_leave() {
    for name in [
        "../outside/evil",
        "a/../../outside/evil",
        "/../outside/evil",
        "..",
        "a/..",
    ] {
        assert_eq!(
            refused(Archive::new().file(name, "evil")),
            (name.to_owned(), EntryError::Escapes)
        );
    }
    let (name, reason) = refused(
        Archive::new()
            .pax(&[("path", b"../outside/evil")])
            .file("fine", "evil"),
    );
    assert_eq!((name.as_str(), reason), ("../outside/evil", EntryError::Escapes));
    assert_eq!(
        refused(Archive::new().long_name(b"../outside/evil").file("fine", "")).1,
        EntryError::Escapes
    );
    assert_eq!(
        refused(Archive::new().folder("../outside/dir")).1,
        EntryError::Escapes
    );
    assert_eq!(
        refused(Archive::new().symlink("../outside/link", "x")).1,
        EntryError::Escapes
    );
    assert_eq!(
        refused(Archive::new().file("../outside/.wh.secret", "")).1,
        EntryError::Escapes
    );
}

#[test]
fn symbolic_links_that_leave() {
    for target in [
        "/etc",
        "../outside",
        "../../../../../../../../tmp",
        "/proc/self/root",
        "a/../..",
    ] {
        let archive = Archive::new()
            .folder("a/")
            .symlink("link", target)
            .file("link/evil", "evil");
        assert_eq!(
            refused(archive),
            ("link/evil".to_owned(), EntryError::EscapesBySymlink),
            "{target}"
        );
    }
    let chain = Archive::new()
        .symlink("one", "two")
        .symlink("two", "../outside")
        .file("one/x/y", "");
    assert_eq!(refused(chain).1, EntryError::EscapesBySymlink);
    let itself = Archive::new().symlink("loop", "loop").file("loop/x", "");
    assert_eq!(refused(itself).1, EntryError::EscapesBySymlink);
    let whiteout = Archive::new()
        .symlink("link", "../outside")
        .file("link/.wh.secret", "");
    assert_eq!(refused(whiteout).1, EntryError::EscapesBySymlink);
    let opaque = Archive::new()
        .symlink("link", "../outside")
        .file("link/.wh..wh..opq", "");
    assert_eq!(refused(opaque).1, EntryError::EscapesBySymlink);
}

#[test]
fn a_folder_replaced_by_a_link_is_not_written_through() {
    let archive = Archive::new()
        .folder("d/")
        .file("d/one", "1")
        .symlink("d", "../outside")
        .file("d/evil", "evil");
    assert_eq!(
        refused(archive),
        ("d/evil".to_owned(), EntryError::EscapesBySymlink)
    );
}

#[test]
fn a_link_is_replaced_not_written_to() {
    let layer = Layer::new();
    let archive = Archive::new()
        .symlink("f", "../outside/secret")
        .file("f", "evil")
        .symlink("d", "../outside")
        .folder("d/")
        .file("d/secret", "evil");
    layer.unpack(archive).unwrap();
    layer.assert_contained();
    assert_eq!(fs::read_to_string(layer.path("d/secret")).unwrap(), "evil");
    assert!(layer.stat("d").is_dir() && layer.stat("f").is_file());
}

#[test]
fn the_times_of_a_replaced_folder_go_nowhere() {
    let layer = Layer::new();
    let before = fs::metadata(layer.outside()).unwrap().mtime();
    let archive = Archive::new().folder("d/").symlink("d", "../outside");
    layer.unpack(archive).unwrap();
    assert_eq!(fs::metadata(layer.outside()).unwrap().mtime(), before);
}

#[test]
fn hard_links_that_leave() {
    let target = "../outside/secret";
    let escapes = EntryError::LinkEscapes(target.to_owned());
    assert_eq!(
        refused(Archive::new().hard_link("h", target)),
        ("h".to_owned(), escapes)
    );
    let through = Archive::new()
        .symlink("link", "../outside")
        .hard_link("h", "link/secret");
    assert_eq!(
        refused(through).1,
        EntryError::LinkEscapes("link/secret".to_owned())
    );
    let absolute = Archive::new().hard_link("h", "/etc/passwd");
    assert_eq!(
        refused(absolute).1,
        EntryError::LinkTargetMissing("/etc/passwd".to_owned())
    );
    let folder = Archive::new().folder("d/").hard_link("h", "d");
    assert_eq!(refused(folder).1, EntryError::LinkToFolder("d".to_owned()));
    assert_eq!(
        refused(Archive::new().hard_link("h", "/")).1,
        EntryError::LinkToFolder("/".to_owned())
    );
    // A hard link to a symbolic link is another name of the link: nothing is written through it.
    let layer = Layer::new();
    let archive = Archive::new()
        .symlink("s", "../outside/secret")
        .hard_link("h", "s")
        .file("h", "evil");
    layer.unpack(archive).unwrap();
    layer.assert_contained();
}

#[test]
fn entries_that_make_no_sense() {
    assert_eq!(refused(Archive::new().file(".", "")).1, EntryError::RootNotFolder);
    assert_eq!(
        refused(Archive::new().symlink("/", "x")).1,
        EntryError::RootNotFolder
    );
    assert_eq!(
        refused(Archive::new().symlink("s", "")).1,
        EntryError::NoLinkTarget
    );
    assert_eq!(
        refused(Archive::new().file(".wh...", "")).1,
        EntryError::BadWhiteout
    );
    assert_eq!(
        refused(Archive::new().raw(b'V', b"v", b"", |_| ())).1,
        EntryError::UnknownType('V')
    );
    assert_eq!(
        refused(Archive::new().file("f", "").file("f/below", "")).1,
        EntryError::ParentNotFolder
    );
    let nul = Archive::new().pax(&[("path", b"a\0b")]).file("fine", "");
    assert_eq!(refused(nul).1, EntryError::NulByte);
    let owner = Archive::new().pax(&[("uid", b"4294967295")]).file("f", "");
    assert_eq!(refused(owner).1, EntryError::BadField("uid"));
    let time = Archive::new().pax(&[("mtime", b"soon")]).file("f", "");
    assert_eq!(refused(time).1, EntryError::BadField("mtime"));
}

#[test]
fn two_readings_of_one_size_are_refused() {
    // A record that a reader of lines overlooks, and a reader of lengths sees.
    let archive = Archive::new()
        .pax(&[("comment", b"\n"), ("size", b"0")])
        .file("f", "content");
    assert_eq!(refused(archive).1, EntryError::BadField("size"));
}

#[test]
fn broken_archives() {
    let layer = Layer::new();
    for bytes in [
        &[b'x'; 512][..],
        &Archive::new().file("f", "content").finish()[..600],
    ] {
        assert!(matches!(
            layer.unpack_limited(bytes, 1 << 20),
            Err(LayerError::Format(_))
        ));
    }
    let huge_name = vec![b'n'; 3 << 20];
    let error = system_error(Archive::new().long_name(&huge_name).file("f", ""));
    assert_eq!(
        error.to_string(),
        "broken tar archive: an extended header is too long"
    );
    let long_component = vec![b'n'; 300];
    let error = system_error(Archive::new().long_name(&long_component).file("f", ""));
    assert!(
        matches!(
            error,
            LayerError::System {
                verb: "create file",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn bombs() {
    let layer = Layer::new();
    let archive = Archive::new().file("f", &"x".repeat(5000)).finish();
    let error = layer.unpack_limited(&archive, 4096).unwrap_err();
    assert!(matches!(error, LayerError::TooLarge { limit: 4096 }), "{error}");
    let sparse: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"99999999999999")];
    let archive = Archive::new().pax(&sparse).file("f", "x").finish();
    let error = layer.unpack_limited(&archive, 1 << 20).unwrap_err();
    assert!(matches!(error, LayerError::TooLarge { .. }), "{error}");
}

#[test]
fn sparse_maps_that_lie() {
    let bad = |map: &[u8], size: &[u8]| {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.map", map), ("GNU.sparse.size", size)];
        refused(Archive::new().pax(&records).file("f", "abcdef")).1
    };
    for map in [
        &b"0,7"[..],
        b"0,3,1,3",
        b"5,1,0,1",
        b"0",
        b"x,1",
        b"18446744073709551615,2",
    ] {
        assert_eq!(bad(map, b"100"), EntryError::BadSparseMap, "{map:?}");
    }
    assert_eq!(bad(b"0,6", b"5"), EntryError::BadSparseMap);
    let missing = Archive::new().pax(&[("GNU.sparse.map", b"0,1")]).file("f", "x");
    assert_eq!(refused(missing).1, EntryError::BadSparseMap);
}
