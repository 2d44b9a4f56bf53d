//! `pintle-oci` from outside: the life of a container, its states, lists, limits, hooks, and what goes wrong.
#![allow(clippy::unwrap_used)]

mod oci_cli;
mod support;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use oci_cli::Cli;
use serde_json::{Value, json};

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let cli = Cli::sleeper();
    cli.create();
    let state = cli.ok("state c");
    let fields: Vec<&str> = state
        .lines()
        .filter_map(|line| line.trim().split('"').nth(1))
        .collect();
    assert_eq!(
        fields,
        [
            "ociVersion",
            "id",
            "pid",
            "status",
            "bundle",
            "rootfs",
            "created",
            "owner"
        ]
    );
    assert_eq!(cli.status(), "created");
    let pid = cli.state()["pid"].as_i64().unwrap();
    assert_eq!(cli.ok("exec c echo early"), "early\n");
    cli.ok("start c");
    assert_eq!(cli.status(), "running");
    assert_eq!(cli.state()["pid"], pid);
    let again = cli.run("start c");
    assert_eq!(
        (again.code, again.err.contains("already running")),
        (1, true),
        "{again:?}"
    );
    let running = cli.run("delete c");
    assert!(
        running.code == 1 && running.err.contains("that is not stopped: running"),
        "{running:?}"
    );
    cli.ok("kill c KILL");
    cli.wait_for("stopped");
    assert_eq!(cli.state()["pid"], 0);
    let dead = cli.run("kill c");
    assert!(
        dead.code == 1 && dead.err.contains("container not running"),
        "{dead:?}"
    );
    assert_eq!(cli.run("exec c true").code, 255);
    cli.ok("delete c");
    let gone = cli.run("state c");
    assert!(
        gone.code == 1 && gone.err.contains("container does not exist"),
        "{gone:?}"
    );
    assert_eq!(cli.run("delete c").code, 1);
    cli.ok("delete --force c");
    cli.assert_nothing_left();
}

#[test]
fn a_name_is_given_once_and_must_be_one() {
    let cli = Cli::sleeper();
    cli.create();
    let twice = cli.run("create c");
    assert!(
        twice.code == 1 && twice.err.contains("container with given ID already exists"),
        "{twice:?}"
    );
    assert_eq!(cli.status(), "created", "and the first one is unharmed");
    for bad in ["a/b", "..", "ä"] {
        let done = cli.run(&format!("create {bad}"));
        assert!(
            done.code == 1 && done.err.contains("invalid container ID format"),
            "{done:?}"
        );
    }
    assert_eq!(cli.run("create").code, 1);
    assert_eq!(cli.run("create a b").code, 1);
}

#[test]
fn the_code_of_the_process_is_that_of_run() {
    let cli = Cli::new("echo out; echo err >&2; exit 41");
    let done = cli.run("run c --bundle {}");
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (41, "out\n", "err\n")
    );
    cli.assert_nothing_left();
    let mut cli = Cli::new("");
    cli.bundle.set(
        "/process/args",
        json!(["sh", "-c", "(kill -TERM $$) & sleep 1000"]),
    );
    cli.bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    let done = cli.run("run c");
    assert_eq!(done.code, 128 + 15, "{done:?}");
    cli.assert_nothing_left();
}

#[test]
fn signals_reach_the_process() {
    let cli = Cli::new("trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done");
    let mut child = cli.command("run c").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    cli.assert_nothing_left();
}

#[test]
fn a_detached_container_lives_on_and_can_be_kept() {
    let cli = Cli::sleeper();
    let status = cli
        .command("run -d --pid-file pid c")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let pid = fs::read_to_string(cli.bundle.path("pid")).unwrap();
    assert_eq!(cli.state()["pid"].to_string(), pid);
    cli.ok("delete -f c");
    cli.assert_nothing_left();
    let cli = Cli::new("true");
    assert_eq!(cli.run("run --keep c").code, 0);
    assert_eq!(cli.status(), "stopped");
    cli.ok("delete c");
    cli.assert_nothing_left();
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let mut cli = Cli::new("");
    for (args, why) in [
        ("/nope", "exec /nope: no such file or directory"),
        ("nope", "executable file not found in $PATH"),
        ("/etc/passwd", "permission denied"),
    ] {
        cli.bundle.set("/process/args", json!([args]));
        for line in ["create c", "run c"] {
            let done = cli.run(line);
            assert!(done.code == 1 && done.err.contains(why), "{done:?}");
            cli.assert_nothing_left();
        }
    }
    let mut cli = Cli::new("true");
    cli.bundle.add(
        "/mounts",
        json!({"destination": "/x", "type": "nofs", "source": "none"}),
    );
    let done = cli.run("run c");
    assert!(done.code == 1 && done.err.contains("nofs"), "{done:?}");
    cli.assert_nothing_left();
    let done = cli.run("create c --bundle /no/such/folder");
    assert!(done.code == 1 && done.err.contains("/no/such/folder"), "{done:?}");
    let empty = tempfile::tempdir().unwrap();
    let done = cli.run(&format!("create c --bundle {}", empty.path().display()));
    assert!(done.err.contains("config.json not found"), "{done:?}");
}

#[test]
fn lists_show_what_there_is() {
    let cli = Cli::sleeper();
    let missing = cli.run("list");
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(!cli.states().exists());
    cli.start();
    let list: Value = serde_json::from_str(&cli.ok("list -f json")).unwrap();
    assert_eq!(
        (&list[0]["id"], &list[0]["status"], &list[0]["owner"]),
        (&json!("c"), &json!("running"), &json!("root"))
    );
    assert_eq!(cli.ok("list -q"), "c\n");
    let table = cli.ok("list");
    assert!(
        table.starts_with("ID          PID         STATUS      BUNDLE"),
        "{table}"
    );
    let pid = cli.state()["pid"].to_string();
    assert_eq!(cli.ok("ps -f json c"), format!("[{pid}]\n"));
    assert_eq!(cli.ok("ps c --format json"), format!("[{pid}]\n"));
    let table = cli.ok("ps c -e -o pid,comm");
    assert!(table.contains("sleep") && table.lines().count() == 2, "{table}");
    cli.ok("delete -f c");
    assert_eq!(cli.ok("list -f json"), "null\n");
}

#[test]
fn a_paused_container_is_left_alone() {
    let cli = Cli::sleeper();
    cli.start();
    assert_eq!(cli.run("resume c").code, 1);
    cli.ok("pause c");
    assert_eq!(cli.status(), "paused");
    let exec = cli.run("exec c true");
    assert!(exec.code == 255 && exec.err.contains("paused"), "{exec:?}");
    assert_eq!(cli.run("pause c").code, 1);
    cli.ok("resume c");
    assert_eq!(cli.status(), "running");
    cli.ok("pause c");
    cli.ok("delete -f c");
    cli.assert_nothing_left();
}

#[test]
fn limits_change_by_flags_and_by_file() {
    let cli = Cli::sleeper();
    cli.start();
    let limit = || {
        let path = cli.bundle.cgroup.trim_start_matches('/');
        let mut folders = pintle_runtime::cgroup::hierarchies()
            .iter()
            .map(|h| h.mount.join(path));
        let file = folders.find(|f| f.join("pids.max").exists()).unwrap();
        fs::read_to_string(file.join("pids.max"))
            .unwrap()
            .trim()
            .to_owned()
    };
    cli.ok("update c --pids-limit 77");
    assert_eq!(limit(), "77");
    let mut child = cli
        .command("update -r - c")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(br#"{"pids":{"limit":78}}"#)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(limit(), "78");
    fs::write(cli.bundle.path("r.json"), "{").unwrap();
    assert_eq!(cli.run("update -r r.json c").code, 1);
    assert_eq!(cli.run("update --memory lots c").code, 1);
}

#[test]
fn statistics_and_lack_of_memory_are_told_as_lines() {
    // waits for a listener, however slow the machine is
    let mut cli =
        Cli::new("trap go=1 USR1; until [ $go ]; do sleep 0.05; done; tail /dev/zero; exec sleep 1000");
    cli.bundle.set(
        "/linux/resources/memory",
        json!({"limit": 16 << 20, "swap": 16 << 20}),
    );
    cli.start();
    let line: Value = serde_json::from_str(&cli.ok("events --stats c")).unwrap();
    assert_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!("c")));
    assert!(
        line["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
        "{line}"
    );
    assert_eq!(line["data"]["memory"]["usage"]["limit"], 16 << 20);
    let mut child = cli
        .command("events --interval 50ms c")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut kinds =
        std::io::BufRead::lines(out).map(|line| -> Value { serde_json::from_str(&line.unwrap()).unwrap() });
    let is_oom = |line: Value| {
        // each time anew: one that comes before the trap is lost
        cli.ok("kill c USR1");
        line["type"] == "oom"
    };
    assert_eq!(kinds.next().unwrap()["type"], "stats");
    assert!(kinds.by_ref().take(1000).any(is_oom));
    cli.ok("kill c KILL");
    // it may be far ahead, and wait for a reader
    kinds.for_each(drop);
    assert!(child.wait().unwrap().success());
    cli.wait_for("stopped");
    assert_eq!(cli.run("events --stats c").code, 1);
}

#[test]
fn hooks_run_in_their_order_with_the_state_on_their_input() {
    let mut cli = Cli::new("echo program >> /log");
    let log = cli.bundle.path("log");
    fs::write(&log, "").unwrap();
    let path = log.to_str().unwrap().to_owned();
    let hook = |name: &str| {
        let script = format!("grep -o '\"status\":\"[a-z]*\"' | sed 's/^/{name} /' >> {path}");
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    cli.bundle.spec["hooks"] = json!({
        "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
        "poststart": hook("poststart"), "poststop": hook("poststop"),
    });
    cli.create();
    cli.ok("start c");
    cli.wait_for("stopped");
    cli.ok("delete c");
    let said = fs::read_to_string(&log).unwrap();
    let expected = [
        "prestart \"status\":\"creating\"",
        "createRuntime \"status\":\"creating\"",
        "poststart \"status\":\"running\"",
        "poststop \"status\":\"stopped\"",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    cli.bundle.spec["hooks"] = json!({"poststart": [{"path": "/bin/false"}]});
    cli.bundle.set("/process/args", json!(["sleep", "1000"]));
    cli.create();
    let done = cli.run("start c");
    assert!(
        done.code == 1 && done.err.contains("error running poststart hook #0"),
        "{done:?}"
    );
    cli.wait_for("stopped");
}

#[test]
fn what_it_tells_of_itself() {
    let cli = Cli::sleeper();
    let version = cli.ok("--version");
    let lines: Vec<&str> = version.lines().collect();
    assert!(
        lines[0].starts_with("pintle-oci version ") && lines[1].starts_with("commit: "),
        "{version}"
    );
    assert!(lines[2].starts_with("spec: 1."), "{version}");
    assert!(cli.ok("--help").starts_with("NAME:"));
    assert!(cli.ok("run --help").starts_with("NAME:"));
    let features: Value = serde_json::from_str(&cli.ok("features")).unwrap();
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    assert_eq!(
        features["linux"]["intelRdt"],
        json!({"enabled": true, "schemata": true, "monitoring": true})
    );
    let version = &features["annotations"]["io.github.seccomp.libseccomp.version"];
    assert!(version.as_str().unwrap().starts_with("2."), "{version}");
    assert!(
        features["linux"]["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("CAP_SYS_ADMIN"))
    );
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().display();
    cli.ok(&format!("spec -b {folder}"));
    let spec: Value = serde_json::from_slice(&fs::read(empty.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    assert_eq!(
        cli.run(&format!("spec -b {folder}")).code,
        1,
        "nothing is overwritten"
    );
    assert_eq!(cli.run("teleport c").code, 1);
    assert_eq!(cli.run("run --teleport c").code, 1);
}

#[test]
fn errors_go_to_the_log_and_to_standard_error() {
    let cli = Cli::sleeper();
    let done = cli.run("--log {}/log --log-format json state nobody");
    assert_eq!((done.code, done.err.as_str()), (1, "container does not exist\n"));
    let line: Value = serde_json::from_slice(&fs::read(cli.bundle.path("log")).unwrap()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("error"), &json!("container does not exist"))
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    let done = cli.run("--debug state nobody");
    assert!(
        done.err.contains("level=debug") && done.err.contains("level=error"),
        "{done:?}"
    );
    assert_eq!(cli.run("--log-format xml state nobody").code, 1);
}
