//! AppArmor profiles of containers and execs. What is expected depends on whether this host has AppArmor; either way
//! something is.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use support::Bundle;

const PROFILE: &str = "pintle-test-profile";

fn enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// A loaded profile, which goes with the test.
struct Loaded;

fn parser(option: &str) {
    let text = format!(
        "profile {PROFILE} flags=(attach_disconnected) {{\n file,\n capability,\n deny /tmp/secret r,\n}}\n"
    );
    let mut child = Command::new("apparmor_parser")
        .args([option, "--skip-cache"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

impl Drop for Loaded {
    fn drop(&mut self) {
        parser("--remove");
    }
}

#[test]
fn a_profile_confines_or_is_refused_by_name() {
    let mut b = Bundle::new(
        "cat /proc/self/attr/current; echo x >/tmp/secret; cat /tmp/secret 2>/dev/null || echo denied",
    );
    b.set("/process/apparmorProfile", json!(PROFILE));
    let e = b.error();
    let wanted = match enabled() {
        true => "no such profile is loaded on this host",
        false => "AppArmor is not enabled on this host",
    };
    assert_eq!(e, format!("process.apparmorProfile: {PROFILE:?}: {wanted}"));
    if enabled() {
        parser("--replace");
        let _loaded = Loaded;
        assert_eq!(b.output(), format!("{PROFILE} (enforce)\ndenied\n"));
    }
    b.set("/process/apparmorProfile", json!("unconfined"));
    let output = b.output();
    assert!(output.ends_with("x\n"), "{output}");
}
