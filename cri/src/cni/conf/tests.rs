//! Tests of reading configurations.

use serde_json::json;

use super::*;

fn refused(source: Value) -> String {
    Network::parse(source).expect_err("must be refused")
}

#[test]
fn a_list_and_a_single_plugin() {
    let list = json!({
        "cniVersion": "1.0.0", "name": "pods", "disableCheck": true,
        "plugins": [
            {"type": "bridge", "bridge": "b0"},
            {"type": "portmap", "capabilities": {"portMappings": true, "other": false}},
        ],
    });
    let network = Network::parse(list).expect("valid");
    assert_eq!(
        (network.name.as_str(), network.version),
        ("pods", Version::V1_0_0)
    );
    assert!(network.disable_check && !network.disable_gc);
    assert_eq!(network.plugins[0].conf["bridge"], "b0");
    assert_eq!(network.plugins[1].capabilities, ["portMappings"]);
    let single = json!({"cniVersion": "0.3.1", "name": "one", "type": "ptp"});
    let network = Network::parse(single).expect("valid");
    assert_eq!(network.plugins.len(), 1);
    assert_eq!(network.plugins[0].kind, "ptp");
}

#[test]
fn the_highest_known_version_is_taken() {
    let with = |versions: Value| {
        Network::parse(json!({"cniVersion": "0.4.0", "cniVersions": versions, "name": "n", "type": "t"}))
            .expect("valid")
            .version
    };
    assert_eq!(with(json!(["0.4.0", "1.0.0", "9.0.0"])), Version::V1_0_0);
    assert_eq!(with(json!(["9.0.0"])), Version::V0_4_0);
}

#[test]
fn what_is_wrong_is_named() {
    assert!(refused(json!([])).contains("object"));
    assert!(refused(json!({"name": "a/b", "type": "t"})).contains("a/b"));
    assert!(refused(json!({"name": "n", "cniVersion": "7.0.0", "type": "t"})).contains("7.0.0"));
    assert!(refused(json!({"name": "n", "type": "../sh"})).contains("../sh"));
    assert!(refused(json!({"name": "n"})).contains("type"));
    assert!(refused(json!({"name": "n", "plugins": []})).contains("plugins"));
    assert!(refused(json!({"name": "n", "plugins": [3]})).contains("object"));
    assert!(refused(json!({"name": "n", "type": "t", "capabilities": 1})).contains("capabilities"));
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("write");
}

#[test]
fn the_first_valid_file_by_name_wins() {
    let dir = tempfile::tempdir().expect("folder");
    let conf = ConfDir::new(dir.path().to_owned());
    assert!(matches!(conf.network(), Err(CniError::NotConfigured { .. })));
    write(
        dir.path(),
        "20-b.conflist",
        r#"{"name":"b","plugins":[{"type":"x"}]}"#,
    );
    write(dir.path(), "30-c.conf", r#"{"name":"c","type":"x"}"#);
    write(dir.path(), "00-readme.txt", r#"{"name":"text","type":"x"}"#);
    assert_eq!(conf.network().expect("valid").name, "b");
    write(dir.path(), "10-broken.json", "{");
    assert_eq!(conf.network().expect("a broken file is skipped").name, "b");
    write(dir.path(), "10-broken.json", r#"{"name":"a","type":"x"}"#);
    assert_eq!(conf.network().expect("read again").name, "a");
    fs::remove_file(dir.path().join("10-broken.json")).expect("remove");
    fs::remove_file(dir.path().join("20-b.conflist")).expect("remove");
    assert_eq!(conf.network().expect("read again").name, "c");
}

#[test]
fn nothing_but_broken_files_is_told_with_reasons() {
    let dir = tempfile::tempdir().expect("folder");
    write(
        dir.path(),
        "10.conf",
        r#"{"name":"n","cniVersion":"9.9.9","type":"x"}"#,
    );
    let error = ConfDir::new(dir.path().to_owned())
        .network()
        .expect_err("nothing valid")
        .to_string();
    assert!(error.contains("10.conf") && error.contains("9.9.9"), "{error}");
}

#[test]
fn a_folder_that_appears_later_works() {
    let dir = tempfile::tempdir().expect("folder");
    let later = dir.path().join("net.d");
    let conf = ConfDir::new(later.clone());
    assert!(conf.network().is_err());
    fs::create_dir(&later).expect("create");
    write(&later, "a.conf", r#"{"name":"n","type":"x"}"#);
    assert_eq!(conf.network().expect("valid").name, "n");
}
