//! The program as a CNI plugin: commands that are of no pod, and requests that can't be fulfilled.

mod common;

use std::path::{Path, PathBuf};

use common::Ns;
use common::cni::{Bench, Call, NETPLUG};
use serde_json::{Value, json};

#[test]
fn garbage_collection_and_status() {
    let bench = Bench::new();
    let list = bench.single("1.1.0");
    let (a, b) = (Ns::new(), Ns::new());
    list.add(&bench.node.ns, "pod-a", &a, &Value::Null).expect("add");
    list.add(
        &bench.node.ns,
        "pod-b",
        &b,
        &json!([{"hostPort": 1, "containerPort": 1}]),
    )
    .expect("add");
    let run = |command: &str, extra: (&str, Value)| {
        let mut conf = list.conf(&list.plugins[0].1, &Value::Null, None);
        conf[extra.0] = extra.1;
        Call {
            plugin: Path::new(NETPLUG),
            command,
            id: "",
            netns: None,
            conf,
        }
        .run(&bench.node.ns)
    };
    run("STATUS", ("bridge", json!("cni0"))).expect("ready");
    let failure = run("STATUS", ("bridge", json!("up0"))).expect_err("a bridge that is none");
    assert_eq!(failure["code"], 50);
    assert!(
        failure["msg"]
            .as_str()
            .is_some_and(|text| text.contains("up0") && text.contains("veth")),
        "{failure}"
    );
    let live = json!([{"containerID": "pod-a", "ifname": "eth0"}]);
    run("GC", ("cni.dev/valid-attachments", live)).expect("gc");
    let traces = bench.node.traces().join("\n");
    assert!(
        traces.contains("10.67.0.2") && !traces.contains("10.67.0.3"),
        "{traces}"
    );
    run("GC", ("cni.dev/valid-attachments", json!([]))).expect("gc");
    bench.nothing_left();
}

#[test]
fn addresses_that_host_local_gave_are_not_given_again() {
    let bench = Bench::new();
    let list = bench.single("1.0.0");
    let dir = bench.node.state.path().join("data/test");
    std::fs::create_dir_all(&dir).expect("create");
    std::fs::write(dir.join("10.67.0.2"), "old-pod\neth0").expect("write");
    let result = list
        .add(&bench.node.ns, "pod-a", &Ns::new(), &Value::Null)
        .expect("add");
    assert_eq!(result["ips"][0]["address"], "10.67.0.3/24");
}

#[test]
fn what_cannot_be_is_an_error_that_names_it_and_leaves_nothing() {
    let bench = Bench::new();
    let pod = Ns::new();
    let add = |change: &dyn Fn(&mut Value), netns: PathBuf| {
        let list = bench.single("1.0.0");
        let mut conf = list.conf(&list.plugins[0].1, &Value::Null, None);
        change(&mut conf);
        let call = Call {
            plugin: Path::new(NETPLUG),
            command: "ADD",
            id: "pod-a",
            netns: Some(netns),
            conf,
        };
        let failure = call.run(&bench.node.ns).expect_err("must fail");
        bench.nothing_left();
        (
            failure["code"].as_u64().expect("code"),
            failure["msg"].as_str().expect("message").to_owned(),
        )
    };
    let bad = |change: &dyn Fn(&mut Value), code: u64, word: &str| {
        let (found, message) = add(change, pod.path());
        assert!(
            found == code && message.contains(word),
            "{code} {word}: {found} {message}"
        );
    };
    bad(
        &|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/33"}]]),
        7,
        "10.67.0.0/33",
    );
    bad(
        &|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/31"}]]),
        7,
        "10.67.0.0/31",
    );
    bad(
        &|conf| conf["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/24"}], [{"subnet": "10.67.0.0/16"}]]),
        7,
        "overlaps",
    );
    bad(
        &|conf| conf["ipam"]["rangeStrat"] = json!("10.67.0.9"),
        6,
        "rangeStrat",
    );
    bad(&|conf| conf["ipMask"] = json!(true), 7, "ipMask");
    bad(&|conf| conf["cniVersion"] = json!("3.0.0"), 1, "3.0.0");
    bad(&|conf| conf["bridge"] = json!("up0"), 7, "up0");
    bad(
        &|conf| conf["bridge"] = json!("much-too-long-a-name"),
        7,
        "much-too-long-a-name",
    );
    bad(
        &|conf| conf["runtimeConfig"]["ips"] = json!(["10.99.0.1/24"]),
        7,
        "10.99.0.1",
    );
    bad(
        &|conf| conf["runtimeConfig"]["mac"] = json!("nonsense"),
        7,
        "nonsense",
    );
    let (code, message) = add(&|_| {}, "/nonexistent/netns".into());
    assert!(
        code == 4 && message.contains("/nonexistent/netns"),
        "{code} {message}"
    );
    let (code, message) = add(&|_| {}, "/etc/hostname".into());
    assert!(code == 4 && message.contains("/etc/hostname"), "{code} {message}");
    let (code, message) = add(&|_| {}, "/proc/self/ns/net".into());
    assert!(code == 4 && message.contains("host's own"), "{code} {message}");
}

#[test]
fn a_taken_port_and_an_exhausted_range_are_told() {
    let bench = Bench::new();
    let mut list = bench.single("1.0.0");
    list.plugins[0].1["ipam"]["ranges"] = json!([[{"subnet": "10.67.0.0/29", "rangeEnd": "10.67.0.3"}]]);
    let ports = json!([{"hostPort": 8080, "containerPort": 80}]);
    let pods = [Ns::new(), Ns::new(), Ns::new()];
    list.add(&bench.node.ns, "pod-a", &pods[0], &ports).expect("add");
    let failure = list
        .add(&bench.node.ns, "pod-b", &pods[1], &ports)
        .expect_err("port taken");
    assert!(
        failure["msg"]
            .as_str()
            .is_some_and(|text| text.contains("8080/tcp")),
        "{failure}"
    );
    list.add(&bench.node.ns, "pod-b", &pods[1], &Value::Null)
        .expect("the address is free again");
    let failure = list
        .add(&bench.node.ns, "pod-c", &pods[2], &Value::Null)
        .expect_err("exhausted");
    assert!(
        failure["msg"]
            .as_str()
            .is_some_and(|text| text.contains("10.67.0.3")),
        "{failure}"
    );
    let failure = list
        .add(&bench.node.ns, "pod-a", &pods[0], &Value::Null)
        .expect_err("twice");
    assert!(
        failure["msg"].as_str().is_some_and(|text| text.contains("pod-a")),
        "{failure}"
    );
}
