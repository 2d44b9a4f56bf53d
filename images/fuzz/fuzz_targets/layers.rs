//! Layers, unpacked for real below /dev/shm: what lies beside the layer's folder must stay as it is.
#![no_main]

use std::fs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let base = std::path::PathBuf::from(format!("/dev/shm/pintle-fuzz-{}", std::process::id()));
    let (root, frame, beside) = (base.join("layer"), base.join("frame"), base.join("beside"));
    fs::create_dir_all(&root).expect("a folder in memory");
    fs::write(&beside, "untouched").expect("a file beside it");
    pintle_images::fuzzing::layer(bytes, &root, &frame);
    assert_eq!(fs::read_to_string(&beside).ok().as_deref(), Some("untouched"));
    let names = fs::read_dir(&base).expect("the folder").flatten();
    assert!(names.count() <= 3, "something was made outside");
    fs::remove_dir_all(&base).expect("what was unpacked can be removed");
});
