//! Real attachments and terminals: a shell that is spoken to, sizes, hang-ups, and what outlives the daemon.
#![allow(clippy::unwrap_used)]

mod pod;
mod support;

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};

use pintle_runtime::client::MonitorClient;
use pintle_runtime::terminal;
use pod::{Pod, exec_request, soon};
use serde_json::json;
use support::Bundle;

/// Makes and starts a container that keeps its standard input.
async fn run(pod: &mut Pod, id: &str, bundle: Bundle, stdin_once: bool) -> i32 {
    let mut request = pod::request(id, &bundle, pod.log_path(id));
    request.stdin = true;
    request.stdin_once = stdin_once;
    pod.bundles.push(bundle);
    let pid = soon(pod.client.create(request)).await.unwrap();
    soon(pod.client.start(id)).await.unwrap();
    pid
}

fn shell() -> Bundle {
    let mut bundle = Bundle::new("");
    bundle.set("/process/args", json!(["sh"]));
    bundle
}

fn shell_on_terminal() -> Bundle {
    let mut bundle = shell();
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"width": 77, "height": 11}));
    bundle
}

/// What a client holds: where it writes, and what it reads.
struct Client {
    stdin: PipeWriter,
    stdout: PipeReader,
    stderr: PipeReader,
}

async fn attach(client: &MonitorClient, id: &str) -> Client {
    let (stdin_end, stdin) = pipe().unwrap();
    let (stdout, stdout_end) = pipe().unwrap();
    let (stderr, stderr_end) = pipe().unwrap();
    let stdio = [
        Some(stdin_end.into()),
        Some(stdout_end.into()),
        Some(stderr_end.into()),
    ];
    soon(client.attach(id, stdio)).await.unwrap();
    Client {
        stdin,
        stdout,
        stderr,
    }
}

/// Reads until `end` has come; all that was read.
async fn read_until(from: impl AsFd, end: &'static str) -> String {
    let mut file = File::from(from.as_fd().try_clone_to_owned().unwrap());
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with(end) && file.read(&mut byte).unwrap_or(0) == 1 {
            text.push(char::from(byte[0]));
        }
        text
    });
    soon(reading).await.unwrap()
}

async fn read_all(mut from: impl Read + Send + 'static) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    });
    soon(reading).await.unwrap()
}

#[tokio::test]
async fn a_shell_says_exactly_what_it_is_asked_and_ends_with_its_input() {
    let mut pod = Pod::new().await;
    run(&mut pod, "c", shell(), true).await;
    let mut client = attach(&pod.client, "c").await;
    client.stdin.write_all(b"echo hello\n").unwrap();
    drop(client.stdin);
    assert_eq!(read_all(client.stdout).await, "hello\n");
    assert_eq!(read_all(client.stderr).await, "");
    assert_eq!(pod.exited("c").await.code, 0);
    assert_eq!(pod.log("c"), ["stdout F hello"]);
    pod.shut_down().await;
}

#[tokio::test]
async fn input_stays_open_over_detaching_and_the_death_of_the_daemon() {
    let mut pod = Pod::new().await;
    run(&mut pod, "c", shell(), false).await;
    let mut client = attach(&pod.client, "c").await;
    client.stdin.write_all(b"N=1; echo $N\n").unwrap();
    assert_eq!(read_until(&client.stdout, "\n").await, "1\n");
    drop(client);
    // another daemon; the first one's connection breaks off
    let (again, events) = soon(MonitorClient::connect(pod.dir.path())).await.unwrap();
    (pod.client, pod.events) = (again, events);
    let state = soon(pod.client.state()).await.unwrap();
    assert!(state.containers[0].stdin && !state.containers[0].terminal);
    let mut client = attach(&pod.client, "c").await;
    client.stdin.write_all(b"echo $((N + 1)); exit 5\n").unwrap();
    assert_eq!(read_all(client.stdout).await, "2\n");
    assert_eq!(pod.exited("c").await.code, 5);
    pod.shut_down().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_tells_of_its_change_and_answers_keys() {
    let mut pod = Pod::new().await;
    run(&mut pod, "c", shell_on_terminal(), true).await;
    let mut client = attach(&pod.client, "c").await;
    assert_eq!(read_all(client.stderr).await, "", "a terminal has one output");
    client
        .stdin
        .write_all(b"stty -echo; PS1=; echo $((1+1))begin; stty size\n")
        .unwrap();
    let text = read_until(&client.stdout, "11 77\r\n").await;
    assert!(text.ends_with("2begin\r\n11 77\r\n"), "{text:?}");
    client
        .stdin
        .write_all(b"sh -c \"trap 'stty size' WINCH; echo re${x}ady; while :; do sleep 0.02; done\"\n")
        .unwrap();
    read_until(&client.stdout, "ready\r\n").await;
    soon(pod.client.resize("c", 132, 43)).await.unwrap();
    let text = read_until(&client.stdout, "43 132\r\n").await;
    assert!(text.ends_with("43 132\r\n"), "{text:?}");
    // an interrupt reaches what runs in the foreground, and the end of the attachment harms nobody
    client.stdin.write_all(b"\x03").unwrap();
    client.stdin.write_all(b"echo $?st\"\"atus\n").unwrap();
    let text = read_until(&client.stdout, "status\r\n").await;
    assert!(text.ends_with("130status\r\n"), "{text:?}");
    drop((client.stdin, client.stdout));
    let mut client = attach(&pod.client, "c").await;
    client.stdin.write_all(b"exit 6\n").unwrap();
    read_all(client.stdout).await;
    assert_eq!(pod.exited("c").await.code, 6);
    let log = pod.log("c");
    assert!(log.iter().any(|line| line.ends_with("43 132")), "{log:?}");
    pod.shut_down().await;
}

#[tokio::test]
async fn a_terminal_that_nobody_holds_open_for_a_while_goes_on() {
    let mut pod = Pod::new().await;
    let script = "echo one; exec </dev/null >/dev/null 2>&1; sleep 0.2; echo two >/dev/console";
    let mut bundle = Bundle::new(script);
    bundle.set("/process/terminal", json!(true));
    run(&mut pod, "c", bundle, false).await;
    assert_eq!(pod.exited("c").await.code, 0);
    assert_eq!(pod.log("c"), ["stdout F one", "stdout F two"]);
    pod.shut_down().await;
}

#[tokio::test]
async fn an_exec_on_a_terminal_hangs_up_with_its_master() {
    let mut pod = Pod::new().await;
    run(&mut pod, "c", shell(), false).await;
    let mut request = exec_request("c", "e", &["sh", "-c", "tty; stty size; exec sleep 1000"]);
    let mut process = serde_json::to_value(&request.process).unwrap();
    process["terminal"] = json!(true);
    process["consoleSize"] = json!({"width": 31, "height": 12});
    request.process = serde_json::from_value(process).unwrap();
    let (mut exec, master): (_, OwnedFd) = soon(pod.client.exec_terminal(request)).await.unwrap();
    let text = read_until(&master, "12 31\r\n").await;
    assert!(
        text.starts_with("/dev/pts/") && text.ends_with("\r\n12 31\r\n"),
        "{text:?}"
    );
    terminal::resize(master.as_fd(), 80, 24).unwrap();
    drop(master);
    assert_eq!(soon(exec.wait()).await.unwrap().signal, Some(1), "SIGHUP");

    let mut request = exec_request("c", "f", &["sh", "-c", "read line; echo got $line; exit 3"]);
    request.process.set_terminal(Some(true));
    let (mut exec, master) = soon(pod.client.exec_terminal(request)).await.unwrap();
    nix::unistd::write(&master, b"this\n").unwrap();
    assert_eq!(read_until(&master, "got this\r\n").await, "this\r\ngot this\r\n");
    assert_eq!(soon(exec.wait()).await.unwrap().code, 3);
    pod.shut_down().await;
}

#[tokio::test]
async fn a_long_output_arrives_whole_at_a_reader_who_is_slower_than_the_container() {
    let mut pod = Pod::new().await;
    run(&mut pod, "c", Bundle::new("read go; seq 1 1000000"), false).await;
    let Client {
        mut stdin, stdout, ..
    } = attach(&pod.client, "c").await;
    stdin.write_all(b"go\n").unwrap();
    // he begins when most of what the monitor keeps for him waits there
    while std::fs::metadata(pod.log_path("c")).unwrap().len() < 5_000_000 {
        tokio::task::yield_now().await;
    }
    let text = read_all(stdout).await;
    assert_eq!(text.len(), 6_888_896);
    assert!((1..=1_000_000).eq(text.lines().map(|line| line.parse::<u32>().unwrap())));
    assert_eq!(pod.exited("c").await.code, 0);
    assert_eq!(pod.log("c").len(), 1_000_000);
    pod.shut_down().await;
}

#[tokio::test]
async fn a_flood_is_logged_whole_whoever_is_attached() {
    let mut pod = Pod::new().await;
    run(&mut pod, "c", Bundle::new("read go; seq 1 500000"), false).await;
    let mut deaf = attach(&pod.client, "c").await;
    deaf.stdin.write_all(b"go\n").unwrap();
    assert_eq!(pod.exited("c").await.code, 0);
    let log = pod.log("c");
    assert_eq!(log.len(), 500_000);
    assert_eq!(log.last().unwrap(), "stdout F 500000");
    let text = read_all(deaf.stdout).await;
    assert!(
        text.starts_with("1\n2\n3\n") && text.len() < 3_000_000,
        "{} bytes",
        text.len()
    );
    pod.shut_down().await;
}
