//! Hooks: in which namespaces, in which order, and what becomes of a container whose hook fails.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use std::fs;

use pintle_runtime::container;
use serde_json::{Value, json};
use support::Bundle;

/// A hook that notes its name, its pid namespace's kind, its mount namespace and the state's status and pid.
fn note(b: &Bundle, name: &str) -> Value {
    let log = b.path("log");
    let script = format!(
        "read -r state; s=${{state#*status\\\":\\\"}}; s=${{s%%\\\"*}}; \
         echo {name} $s $(readlink /proc/self/ns/mnt) >>{}",
        log.display()
    );
    json!([{"path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

fn log(b: &Bundle) -> Vec<Vec<String>> {
    let text = fs::read_to_string(b.path("log")).unwrap_or_default();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    text.lines().map(words).collect()
}

#[test]
fn every_kind_runs_once_in_its_order_and_namespaces() {
    let mut b = Bundle::new("readlink /proc/self/ns/mnt");
    let hooks = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    let mut all: serde_json::Map<String, Value> = hooks
        .iter()
        .map(|name| ((*name).to_owned(), note(&b, name)))
        .collect();
    // inside the container the host's paths are gone; what it prints is the container's output
    all.insert(
        "startContainer".to_owned(),
        json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat >/tmp/state; readlink /proc/self/ns/mnt >/tmp/mnt; echo $TERM >>/tmp/mnt"]}]),
    );
    b.set("/hooks", Value::Object(all));
    let mut running = b.prepare().unwrap();
    let at_create: Vec<String> = log(&b).into_iter().map(|l| l[0].clone()).collect();
    assert_eq!(at_create, ["prestart", "createRuntime", "createContainer"]);
    running.start().unwrap();
    let inside = running.line();
    assert_eq!(
        container::remove(&running.prepared).unwrap(),
        Vec::<String>::new()
    );
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    let wanted = [
        ["prestart", "creating", &ours],
        ["createRuntime", "creating", &ours],
        ["createContainer", "creating", &inside],
        ["poststart", "running", &ours],
        ["poststop", "stopped", &ours],
    ];
    assert_eq!(log(&b), wanted);
    let state = fs::read_to_string(b.rootfs().join("tmp/state")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (&state["status"], &state["id"]),
        (&json!("created"), &json!("test"))
    );
    // it inherits the process's environment
    let mnt = fs::read_to_string(b.rootfs().join("tmp/mnt")).unwrap();
    assert_eq!(mnt, format!("{inside}\nxterm\n"));
}

#[test]
fn the_runtimes_hooks_are_told_the_inits_pid_and_see_its_namespaces() {
    let mut b = Bundle::new("readlink /proc/self/ns/net");
    let log = b.path("log");
    let script = format!(
        "read -r state; p=${{state#*pid\\\":}}; p=${{p%%,*}}; readlink /proc/$p/ns/net >{0}; cat /proc/$p/cgroup | grep -c pintle-test >>{0}",
        log.display()
    );
    b.set(
        "/hooks",
        json!({"createRuntime": [{"path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]}),
    );
    let output = b.output();
    let noted = fs::read_to_string(log).unwrap();
    let (net, groups) = noted.split_once('\n').unwrap();
    assert_eq!(output.trim_end(), net);
    assert_ne!(groups.trim(), "0", "it lies in its cgroup by then");
}

#[test]
fn one_that_fails_undoes_everything_and_poststop_still_runs() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut b = Bundle::new("true");
        let failing = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 7"]}]);
        b.set("/hooks", json!({kind: failing, "poststop": note(&b, "poststop")}));
        let e = b.error();
        assert_eq!(
            e,
            format!("error running {kind} hook #0: exit status 7, output: no")
        );
        assert_eq!(log(&b).len(), 1, "{kind}");
    }
}

#[test]
fn failing_ones_at_the_start_end_the_container() {
    let mut b = Bundle::new("sleep 1000");
    b.set("/hooks", json!({"startContainer": [{"path": "/bin/false"}]}));
    let mut running = b.prepare().unwrap();
    let e = running.start().unwrap_err().to_string();
    assert!(
        e.starts_with("error running startContainer hook #0: exit status 1"),
        "{e}"
    );
    assert_eq!(running.wait(), 1);
    drop(running);

    b.set("/hooks", json!({"poststart": [{"path": "/bin/false"}]}));
    let mut running = b.prepare().unwrap();
    let e = running.start().unwrap_err().to_string();
    assert!(
        e.starts_with("error running poststart hook #0: exit status 1"),
        "{e}"
    );
    assert_eq!(running.wait(), 137);
    drop(running);

    // the last ones only warn
    b.set("/process/args", json!(["true"]));
    b.set("/hooks", json!({"poststop": [{"path": "/bin/false"}]}));
    let mut running = b.prepare().unwrap();
    running.start().unwrap();
    running.wait();
    let warnings = container::remove(&running.prepared).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("error running poststop hook #0"),
        "{warnings:?}"
    );
    drop(running);
    b.assert_nothing_left();
}

#[test]
fn a_time_out_is_kept() {
    let mut b = Bundle::new("true");
    let slow = json!([{"path": "/bin/busybox", "args": ["sleep", "1000"], "timeout": 1}]);
    b.set("/hooks", json!({"createRuntime": slow}));
    let e = b.error();
    assert!(
        e.contains("createRuntime hook #0: context deadline exceeded"),
        "{e}"
    );
}
