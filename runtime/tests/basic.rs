//! A container is made, started, and what it sees is what its configuration says.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod support;

use support::Bundle;

#[test]
fn a_shell_runs_and_its_exit_code_and_output_arrive() {
    let bundle = Bundle::new("echo hello; exit 7");
    assert_eq!(bundle.run(), (7, "hello\n".to_owned()));
    bundle.assert_nothing_left();
}

#[test]
fn namespaces_are_its_own() {
    let b = Bundle::new(
        "echo $$; hostname; for n in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$n; done",
    );
    let output = b.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["1", "box"]);
    for (kind, inside) in ["pid", "net", "ipc", "uts", "mnt", "cgroup"]
        .iter()
        .zip(&lines[2..])
    {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(host.to_str().unwrap(), *inside, "{kind}");
    }
    assert_eq!(
        std::fs::read_link("/proc/self/ns/user")
            .unwrap()
            .to_str()
            .unwrap(),
        lines[8]
    );
}

#[test]
fn only_three_descriptors_are_open() {
    let mut b = Bundle::new("");
    b.set("/process/args", serde_json::json!(["ls", "/proc/self/fd"]));
    // 3 is ls's own, on the folder
    assert_eq!(b.output(), "0\n1\n2\n3\n");
}
