//! Real logs: nothing lost or torn by rotation or by the death of the daemon, long lines, terminals.
#![allow(clippy::unwrap_used)]

mod pod;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use pintle_runtime::client::MonitorClient;
use pintle_runtime::protocol::{Event, SandboxSetup};
use pod::{Pod, records, soon};
use serde_json::json;
use support::Bundle;

/// What `seq 1 n` has logged, in the order of the files; each line once and whole.
fn assert_numbers(lines: &[String], n: usize) {
    assert_eq!(lines.len(), n);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("stdout F {}", i + 1));
    }
}

#[tokio::test]
async fn rotation_under_load_loses_and_tears_nothing() {
    const LINES: usize = 1_000_000;
    let mut pod = Pod::new().await;
    pod.run("c", Bundle::new(&format!("seq 1 {LINES}"))).await;
    let path = pod.log_path("c");
    let mut rotated = Vec::new();
    for i in 0..30 {
        let old = path.with_extension(format!("log.{i}"));
        fs::rename(&path, &old).unwrap();
        let reopened = soon(pod.client.reopen_log("c")).await;
        if reopened.is_err() {
            fs::rename(&old, &path).unwrap(); // it is over already
            break;
        }
        assert!(path.exists(), "the new file is there at once");
        let size = fs::metadata(&old).unwrap().len();
        rotated.push((old, size));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(rotated.len() >= 2, "it was over before it could be rotated");
    pod.exited("c").await;
    let mut lines = Vec::new();
    for (old, size) in &rotated {
        let log = fs::read(old).unwrap();
        assert_eq!(log.len() as u64, *size, "a rotated file grows no more");
        lines.extend(records(&log));
    }
    lines.extend(pod.log("c"));
    assert_numbers(&lines, LINES);
    pod.shut_down().await;
}

#[tokio::test]
async fn lines_are_cut_at_16_kib_and_both_streams_are_told_apart() {
    let mut pod = Pod::new().await;
    let script = "head -c 20000 /dev/zero | tr '\\0' x; echo; echo error >&2; printf 'no end'";
    pod.run("c", Bundle::new(script)).await;
    pod.exited("c").await;
    let mut log = pod.log("c");
    log.sort();
    let expected = [
        "stderr F error".to_owned(),
        format!("stdout F {}", "x".repeat(20000 - 16384)),
        "stdout P no end".to_owned(),
        format!("stdout P {}", "x".repeat(16384)),
    ];
    assert_eq!(log, expected);
    pod.shut_down().await;
}

#[tokio::test]
async fn a_terminals_output_is_logged_as_stdout_without_its_cr() {
    let mut pod = Pod::new().await;
    let mut bundle = Bundle::new("tty; echo error >&2; stty onlcr; echo one; echo two");
    bundle.set("/process/terminal", json!(true));
    pod.run("c", bundle).await;
    pod.exited("c").await;
    let log = pod.log("c");
    assert_eq!(
        log[1..],
        ["stdout F error", "stdout F one", "stdout F two"],
        "{log:?}"
    );
    assert!(log[0].starts_with("stdout F /dev/"), "{log:?}");
    pod.shut_down().await;
}

#[tokio::test]
async fn a_container_without_a_log_runs_all_the_same() {
    let mut pod = Pod::new().await;
    let bundle = Bundle::new("seq 1 100000");
    let mut request = pod::request("c", &bundle, pod.log_path("c"));
    request.log = None;
    pod.bundles.push(bundle);
    soon(pod.client.create(request)).await.unwrap();
    soon(pod.client.start("c")).await.unwrap();
    assert_eq!(pod.exited("c").await.code, 0);
    assert!(!pod.log_path("c").exists());
    pod.shut_down().await;
}

const DIR: &str = "PINTLE_TEST_POD_DIR";
const BUNDLE: &str = "PINTLE_TEST_BUNDLE_DIR";

/// Not a test: the daemon of the test below, as a process of its own that can be killed.
#[tokio::test]
#[ignore = "run by another test"]
async fn daemon_to_be_killed() {
    let dir = std::path::PathBuf::from(std::env::var(DIR).unwrap());
    let (client, _events) = MonitorClient::spawn(&pod::options(dir.clone())).await.unwrap();
    soon(client.setup_sandbox(SandboxSetup::default())).await.unwrap();
    let request = pintle_runtime::protocol::CreateContainer {
        id: "c".to_owned(),
        bundle: std::env::var(BUNDLE).unwrap().into(),
        log: Some(pintle_runtime::protocol::LogTarget::new(dir.join("logs/c/0.log"))),
        ..Default::default()
    };
    soon(client.create(request)).await.unwrap();
    soon(client.start("c")).await.unwrap();
    println!("READY");
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn the_death_of_the_daemon_loses_no_line_and_no_exit() {
    const LINES: usize = 2_000_000;
    let dir = tempfile::Builder::new().prefix("pintle-pod-").tempdir().unwrap();
    let bundle = Bundle::new(&format!("seq 1 {LINES}; exit 6"));
    bundle.options();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "daemon_to_be_killed"])
        .env(DIR, dir.path())
        .env(BUNDLE, bundle.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = BufReader::new(daemon.stdout.take().unwrap())
        .lines()
        .any(|line| line.unwrap().contains("READY"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(ready);

    let mut pod = Pod::of(dir).await;
    pod.bundles.push(bundle);
    let state = soon(pod.client.state()).await.unwrap();
    assert_eq!(state.pid, pod.client.pid());
    let exit = match state.containers[0].exit {
        Some(exit) => exit,
        None => match soon(pod.events.next()).await {
            Some(Event::ContainerExited { exit, .. }) => exit,
            other => panic!("{other:?}"),
        },
    };
    assert_eq!(exit.code, 6);
    assert_numbers(&pod.log("c"), LINES);
    let (client, pid) = (pod.client.clone(), pod.client.pid());
    soon(client.shutdown()).await.unwrap();
    // its new parent reaps it, not we
    for _ in 0..1000 {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => return,
        }
    }
    panic!("the monitor is left");
}
