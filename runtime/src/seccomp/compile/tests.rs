//! Profiles become programs, or errors that name what is wrong.

use super::*;
use crate::seccomp::default_profile;

#[test]
fn the_same_profile_is_compiled_once_and_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = compile(&default_profile(&[]), dir.path()).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(compile(&default_profile(&[]), dir.path()).unwrap(), path);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
    Filter::read(&path).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn bad_profiles_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO",
        "args":[{"index":9,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
    let e = compile(&serde_json::from_str(json).unwrap(), dir.path())
        .unwrap_err()
        .to_string();
    assert!(e.contains("chmod"), "{e}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
