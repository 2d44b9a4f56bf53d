//! What descriptions may say, and what becomes of those that can't be used.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::proto::CdiDevice;

struct Folders {
    tmp: tempfile::TempDir,
    cdi: Cdi,
}

impl Folders {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let folders = ["low", "high"].map(|name| tmp.path().join(name));
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        let cdi = Cdi::new(folders.to_vec());
        Self { tmp, cdi }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "text and JSON alike, without a `&` at each call"
    )]
    fn write(&self, file: &str, text: impl ToString) {
        fs::write(self.tmp.path().join(file), text.to_string()).unwrap();
    }

    fn inject(&self, names: &[&str]) -> std::result::Result<Value, String> {
        let mut spec: Spec = serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/", "user": {"uid": 5, "gid": 6}, "args": ["a"], "env": ["A=1"]},
            "mounts": [{"destination": "/a/b", "type": "tmpfs", "source": "tmpfs"}],
            "linux": {},
        }))
        .unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.cdi.inject(&mut spec, &names).map_err(|e| e.to_string())?;
        Ok(serde_json::to_value(spec).unwrap())
    }

    fn refusal(&self, name: &str) -> String {
        self.inject(&[name]).unwrap_err()
    }
}

fn with_env(kind: &str, device: &str, env: &str) -> Value {
    json!({
        "cdiVersion": "0.6.0",
        "kind": kind,
        "devices": [{"name": device, "containerEdits": {"env": [env]}}],
    })
}

#[test]
fn every_edit_is_made_and_common_ones_once() {
    let folders = Folders::new();
    folders.write(
        "low/all.json",
        json!({
            "cdiVersion": "1.1.0",
            "kind": "vendor.com/device",
            "annotations": {"a": "b"},
            "containerEdits": {"env": ["A=2", "COMMON=1"], "hooks": [
                {"hookName": "createContainer", "path": "/bin/true", "args": ["true"], "env": ["X=1"], "timeout": 3}]},
            "devices": [
                {"name": "0", "containerEdits": {
                    "deviceNodes": [
                        {"path": "/dev/own", "hostPath": "/dev/null", "permissions": "r", "fileMode": 438},
                        {"path": "/dev/made", "type": "c", "major": 7, "minor": 8, "uid": 1, "gid": 2, "permissions": "none"}],
                    "mounts": [
                        {"hostPath": "/usr", "containerPath": "/a", "options": ["ro", "rbind"]},
                        {"hostPath": "/etc", "containerPath": "/a/b"}],
                    "additionalGids": [0, 7, 7]}},
                {"name": "one", "containerEdits": {
                    "netDevices": [{"hostInterfaceName": "eth9", "name": "net1"}],
                    "intelRdt": {"closID": "gold", "schemata": ["L3:0=f"]}}},
            ],
        }),
    );
    let names = ["vendor.com/device=0", "vendor.com/device=one"];
    let spec = folders.inject(&names).unwrap();
    for (place, expected) in [
        ("/process/env", json!(["A=2", "COMMON=1"])),
        ("/process/user/additionalGids", json!([7])),
        (
            "/hooks/createContainer",
            json!([{"path": "/bin/true", "args": ["true"], "env": ["X=1"], "timeout": 3}]),
        ),
        (
            "/linux/devices/0",
            json!({"path": "/dev/own", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 5, "gid": 6}),
        ),
        (
            "/linux/devices/1",
            json!({"path": "/dev/made", "type": "c", "major": 7, "minor": 8, "uid": 1, "gid": 2}),
        ),
        (
            "/linux/resources/devices",
            json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}]),
        ),
        ("/mounts/0/destination", json!("/a")),
        (
            "/mounts/1",
            json!({"destination": "/a/b", "type": "bind", "source": "/etc", "options": []}),
        ),
        ("/linux/netDevices", json!({"eth9": {"name": "net1"}})),
        ("/linux/intelRdt/closID", json!("gold")),
        ("/linux/intelRdt/schemata", json!(["L3:0=f"])),
    ] {
        assert_eq!(spec.pointer(place), Some(&expected), "{place}");
    }
}

#[test]
fn later_folders_go_before_and_equals_are_nobodys() {
    let folders = Folders::new();
    folders.write("low/a.json", with_env("v.com/d", "x", "WHICH=low"));
    folders.write("high/a.json", with_env("v.com/d", "x", "WHICH=high"));
    let env = |of: &Value| of.pointer("/process/env/1").cloned();
    assert_eq!(
        env(&folders.inject(&["v.com/d=x"]).unwrap()),
        Some(json!("WHICH=high"))
    );
    folders.write("high/b.json", with_env("v.com/d", "x", "WHICH=other"));
    let refusal = folders.refusal("v.com/d=x");
    assert!(
        refusal.contains("a.json and by ") && refusal.contains("b.json"),
        "{refusal}"
    );
    fs::remove_file(folders.tmp.path().join("high/a.json")).unwrap();
    assert_eq!(
        env(&folders.inject(&["v.com/d=x"]).unwrap()),
        Some(json!("WHICH=other"))
    );
    // A file that changes is read again.
    folders.write("high/b.json", with_env("v.com/d", "x", "WHICH=changed"));
    assert_eq!(
        env(&folders.inject(&["v.com/d=x"]).unwrap()),
        Some(json!("WHICH=changed"))
    );
}

#[test]
fn yaml_is_read_and_other_files_are_not() {
    let folders = Folders::new();
    let yaml = "---\ncdiVersion: \"0.5.0\"\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
                deviceNodes:\n    - path: /dev/null\ncontainerEdits:\n  env:\n  - NVIDIA_VISIBLE_DEVICES=void\n";
    folders.write("low/nvidia.yaml", yaml);
    folders.write("low/notes.txt", "{");
    fs::create_dir(folders.tmp.path().join("low/folder.json")).unwrap();
    let spec = folders.inject(&["nvidia.com/gpu=0"]).unwrap();
    assert_eq!(spec["process"]["env"][1], "NVIDIA_VISIBLE_DEVICES=void");
    assert_eq!(spec["linux"]["devices"][0]["path"], "/dev/null");
}

#[test]
fn a_file_that_cannot_be_used_is_told_of_and_harms_no_other() {
    let folders = Folders::new();
    folders.write("low/good.json", with_env("good.com/d", "x", "A=1"));
    let edits = json!({"env": ["A=1"]});
    let of = |version: &str, kind: &str, edits: &Value| {
        json!({"cdiVersion": version, "kind": kind, "devices": [{"name": "x", "containerEdits": edits}]})
            .to_string()
    };
    for (text, reason) in [
        (
            of("9.9.9", "v.com/d", &edits),
            "cdiVersion \"9.9.9\": no version that is known",
        ),
        (of("0.3.0", "v.com/d.e", &edits), "what is in it needs 0.6.0"),
        (
            of("0.6.0", "v.com/d", &json!({"additionalGids": [1]})),
            "what is in it needs 0.7.0",
        ),
        (
            of("1.0.0", "v.com/d", &json!({"intelRdt": {"schemata": []}})),
            "what is in it needs 1.1.0",
        ),
        (
            of("0.6.0", "nonsense", &edits),
            "kind \"nonsense\": expected vendor/class",
        ),
        (
            of("0.6.0", "v.com/d", &json!({"env": ["=1"]})),
            "env \"=1\": expected NAME=value",
        ),
        (of("0.6.0", "v.com/d", &json!({})), "its containerEdits are empty"),
        (
            of("0.6.0", "v.com/d", &json!({"enviroment": ["A=1"]})),
            "unknown field `enviroment`",
        ),
        (
            of(
                "0.6.0",
                "v.com/d",
                &json!({"hooks": [{"hookName": "prestop", "path": "/x"}]}),
            ),
            "no such stage",
        ),
        (
            of(
                "0.6.0",
                "v.com/d",
                &json!({"deviceNodes": [{"path": "dev/null"}]}),
            ),
            "expected absolute paths",
        ),
        (
            of(
                "0.6.0",
                "v.com/d",
                &json!({"mounts": [{"hostPath": "/a", "containerPath": "b"}]}),
            ),
            "absolute containerPath",
        ),
        (
            of("0.7.0", "v.com/d", &json!({"intelRdt": {"closID": "../x"}})),
            "not the name of a folder",
        ),
        ("{".to_owned(), "EOF while parsing"),
        ("[]".to_owned(), "invalid length"),
    ] {
        folders.write("low/bad.json", text);
        let refusal = folders.refusal("v.com/d=x");
        assert!(
            refusal.contains(reason) && refusal.contains("bad.json"),
            "{reason}: {refusal}"
        );
        assert!(folders.inject(&["good.com/d=x"]).is_ok(), "{reason}");
    }
}

#[test]
fn hostile_yaml_ends() {
    let folders = Folders::new();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            before.trim_end_matches(", ")
        ));
    }
    folders.write("low/bomb.yaml", bomb);
    folders.write("low/deep.yaml", "[".repeat(100_000));
    folders.write("low/deep.json", "[".repeat(100_000));
    let refusal = folders.refusal("v.com/d=x");
    assert!(
        refusal.contains("bomb.yaml") && refusal.contains("deep.yaml"),
        "{refusal}"
    );
}

#[test]
fn devices_of_the_host_that_are_not_there_are_named() {
    let folders = Folders::new();
    let edits = json!({"deviceNodes": [{"path": "/dev/no-such-device"}]});
    folders.write(
        "low/a.json",
        json!({"cdiVersion": "0.6.0", "kind": "v.com/d", "devices": [{"name": "x", "containerEdits": edits}]}),
    );
    let refusal = folders.refusal("v.com/d=x");
    assert!(
        refusal.contains("v.com/d=x") && refusal.contains("stat /dev/no-such-device"),
        "{refusal}"
    );
    assert!(
        folders
            .refusal("v.com/d=y")
            .contains("no such device is described")
    );
    assert!(folders.refusal("nonsense").contains("expected vendor/class=name"));
}

#[test]
fn names_come_by_field_and_by_annotation_each_once() {
    let mut config = ContainerConfig::default();
    config.cdi_devices.push(CdiDevice {
        name: "v.com/d=x".to_owned(),
    });
    for (key, value) in [
        ("cdi.k8s.io/one", "v.com/d=y,v.com/d=x"),
        ("cdi.k8s.io/two", "v.com/e=z"),
        ("other.io/three", "nonsense"),
    ] {
        config.annotations.insert(key.to_owned(), value.to_owned());
    }
    let names = Cdi::asked_for(&config).unwrap();
    assert_eq!(names, ["v.com/d=x", "v.com/d=y", "v.com/e=z"]);
    config
        .annotations
        .insert("cdi.k8s.io/bad".to_owned(), "nonsense".to_owned());
    assert!(Cdi::asked_for(&config).is_err());
}
