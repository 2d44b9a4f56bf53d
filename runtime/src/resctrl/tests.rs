use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn plan(rdt: &Value, root: &Path) -> Result<Option<Plan>> {
    let spec = json!({"ociVersion": "1.3.0", "linux": {"intelRdt": rdt}});
    Plan::read(&serde_json::from_value(spec).unwrap(), "box", Some(root))
}

fn reason(rdt: &Value, root: &Path) -> String {
    plan(rdt, root).unwrap_err().to_string()
}

/// A class as the kernel makes one.
fn class(root: &Path, name: &str) {
    fs::create_dir_all(root.join(name).join(MONITORED)).unwrap();
    fs::write(root.join(name).join("tasks"), "").unwrap();
    fs::write(root.join(name).join("schemata"), "    MB:0=100\n    L3:0=00f\n").unwrap();
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn what_contradicts_itself_names_its_field() {
    let root = tempfile::tempdir().unwrap();
    let of = |rdt: Value| reason(&rdt, root.path());
    for class in ["..", "a/b", "info", "mon_groups", "mon_data", "a\nb"] {
        let e = of(json!({"closID": class, "l3CacheSchema": "L3:0=f"}));
        assert!(e.starts_with("linux.intelRdt.closID: "), "{e}");
    }
    let e = of(json!({"memBwSchema": "L3:0=f"}));
    assert_eq!(e, "linux.intelRdt.memBwSchema: \"L3:0=f\" doesn't begin with MB:");
    let e = of(json!({"schemata": ["L3:0=f\nMB:0=10"]}));
    assert!(
        e.starts_with("linux.intelRdt.schemata: ") && e.ends_with("is more than one line"),
        "{e}"
    );
    let e = of(json!({"closID": "nobody"}));
    assert!(
        e.starts_with("linux.intelRdt.closID: \"nobody\": there is no class"),
        "{e}"
    );
}

#[test]
fn a_host_without_the_file_system_is_told() {
    let spec = json!({"ociVersion": "1.3.0", "linux": {"intelRdt": {}}});
    let table = read(Path::new("/proc/self/mountinfo"));
    assert_eq!(
        find_mount(&table),
        None,
        "these tests are for hosts without resctrl"
    );
    let e = Plan::read(&serde_json::from_value(spec).unwrap(), "box", None).unwrap_err();
    assert_eq!(
        e.to_string(),
        "linux.intelRdt: no resctrl file system is mounted on this host"
    );
}

#[test]
fn the_mount_is_found_and_parts_of_it_are_not_it() {
    let table = "31 23 0:28 / /sys rw - sysfs sysfs rw\n\
        32 31 0:29 /gold /mnt/part rw - resctrl resctrl rw\n\
        33 31 0:29 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
    assert_eq!(find_mount(table), Some("/sys/fs/resctrl".into()));
}

#[test]
fn a_class_of_others_is_joined_if_it_is_what_was_asked_for() {
    let root = tempfile::tempdir().unwrap();
    class(root.path(), "gold");
    let wanted = json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "enableMonitoring": true});
    // a group as the kernel makes it has its file from the start
    let counted = root.path().join("gold/mon_groups/box");
    let told = std::cell::RefCell::new(Vec::new());
    let plan = plan(&wanted, root.path()).unwrap().unwrap();
    plan.apply(7, |groups| {
        if groups.counted.is_some() {
            fs::write(counted.join("tasks"), "").unwrap();
        }
        told.borrow_mut().push(groups.clone());
        Ok(())
    })
    .unwrap();
    // the kernel takes lines; this file is overwritten from its start
    assert!(read(&root.path().join("gold/schemata")).starts_with("L3:0=f\n"));
    assert_eq!(read(&root.path().join("gold/tasks")), "7");
    assert_eq!(read(&counted.join("tasks")), "7");
    let groups = told.borrow().last().unwrap().clone();
    assert!(
        !groups.is_own && groups.counted.as_deref() == Some(&*counted),
        "{groups:?}"
    );

    let other = json!({"closID": "gold", "l3CacheSchema": "L3:0=7"});
    let e = super::tests::plan(&other, root.path())
        .unwrap()
        .unwrap()
        .apply(7, |_| Ok(()));
    let e = e.unwrap_err().to_string();
    assert!(
        e.starts_with("linux.intelRdt.l3CacheSchema: \"L3:0=7\" is not what the class"),
        "{e}"
    );
}

#[test]
fn the_default_class_is_the_root() {
    let root = tempfile::tempdir().unwrap();
    class(root.path(), ".");
    let plan = plan(&json!({"closID": "/"}), root.path()).unwrap().unwrap();
    let before = read(&root.path().join("schemata"));
    plan.apply(9, |groups| {
        assert!(!groups.is_own);
        groups.remove()
    })
    .unwrap();
    assert_eq!(read(&root.path().join("tasks")), "9");
    assert_eq!(
        read(&root.path().join("schemata")),
        before,
        "nothing was asked for"
    );
}

#[test]
fn lines_are_written_in_the_order_of_the_specification() {
    let wanted = json!({"schemata": ["L2:0=3"], "memBwSchema": "MB:0=10", "l3CacheSchema": "L3:0=f"});
    let wanted: LinuxIntelRdt = serde_json::from_value(wanted).unwrap();
    let lines: Vec<String> = lines(&wanted)
        .unwrap()
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    assert_eq!(lines, ["L3:0=f", "MB:0=10", "L2:0=3"]);
}
