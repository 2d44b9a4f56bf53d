//! `pintle-oci checkpoint` and `restore`: a process goes on, what can't be done is told by name, nothing is left.
//!
//! What needs criu is skipped, and says so, where `criu check` fails. `PINTLE_TEST_CRIU` names another criu.
#![allow(clippy::unwrap_used)]

mod oci_cli;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Write as _};
use std::process::{Command, Stdio};

use oci_cli::{Cli, Done};
use serde_json::json;

fn criu() -> String {
    std::env::var("PINTLE_TEST_CRIU").unwrap_or_else(|_| "criu".to_owned())
}

fn criu_works(test: &str) -> bool {
    let why = match Command::new(criu()).arg("check").output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    // not by the macro, whose output a test that passes keeps to itself
    let _ = writeln!(
        std::io::stderr(),
        "\n*** SKIPPED: {test}: `{} check` fails on this host: {why}\n",
        criu()
    );
    false
}

/// Runs something whose output the container's process keeps.
fn piped(cli: &Cli, line: &str) -> (Done, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = cli.command(line);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    (Done::of(child.wait_with_output().unwrap()), reader)
}

#[test]
fn a_process_goes_on_where_it_was() {
    if !criu_works("a process goes on where it was") {
        return;
    }
    let cli =
        Cli::new("i=0; exec 3>/tmp/out; while :; do i=$((i+1)); echo $i; echo $i >&3; sleep 0.02; done");
    // stderr goes where stdout goes: what waits for its end must not wait for the container's
    let line = format!("--criu {} run -d c", criu());
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = cli.command(&line);
    let status = command.stdout(writer).stderr(Stdio::null()).status().unwrap();
    drop(command);
    assert!(status.success());
    let mut lines = BufReader::new(reader)
        .lines()
        .map(|line| line.unwrap().parse::<u64>().unwrap());
    let first = lines.by_ref().find(|n| *n >= 3).unwrap();
    cli.ok(&format!(
        "--criu {} checkpoint --leave-running --image-path {{}}/images c",
        criu()
    ));
    // it goes on, and no line is missing
    assert_eq!(lines.next(), Some(first + 1));
    assert_eq!(cli.status(), "running");
    fs::remove_dir_all(cli.bundle.path("images")).unwrap();
    cli.ok(&format!(
        "--criu {} checkpoint --image-path {{}}/images c",
        criu()
    ));
    let last = lines.last().unwrap();
    assert_eq!(cli.run("state c").code, 1, "it is gone");

    let line = format!(
        "--criu {} restore -d --image-path {{}}/images --work-path {{}}/work c",
        criu()
    );
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = cli.command(&line);
    let status = command.stdout(writer).stderr(Stdio::null()).status().unwrap();
    drop(command);
    assert!(
        status.success(),
        "{}",
        fs::read_to_string(cli.bundle.path("work/restore.log")).unwrap_or_default()
    );
    let mut lines = BufReader::new(reader)
        .lines()
        .map(|line| line.unwrap().parse::<u64>().unwrap());
    let next = lines.next().unwrap();
    assert!(next == last + 1, "{next} after {last}");
    assert_eq!(cli.status(), "running");
    cli.ok("delete -f c");
    let _: Vec<u64> = lines.collect();
    cli.assert_nothing_left();
}

#[test]
fn what_images_say_can_not_exceed_the_configuration() {
    if !criu_works("what images say can not exceed the configuration") {
        return;
    }
    let mut cli = Cli::sleeper();
    cli.bundle.set("/process/noNewPrivileges", json!(false));
    cli.start();
    cli.ok(&format!(
        "--criu {} checkpoint --image-path {{}}/images c",
        criu()
    ));
    let restore = format!("--criu {} restore -d --image-path {{}}/images c", criu());
    let caps = cli.bundle.spec["process"]["capabilities"].clone();
    cli.bundle.set("/process/capabilities", json!({}));
    let (done, _) = piped(&cli, &restore);
    assert!(
        done.code == 1 && done.err.contains("more than the request grants: capabilities"),
        "{done:?}"
    );
    cli.bundle.set("/process/capabilities", caps);
    // What criu doesn't restore, or the dump hasn't, holds all the same.
    cli.bundle.set("/process/noNewPrivileges", json!(true));
    assert!(quietly(&mut cli.command(&restore)));
    let pid = cli.state()["pid"].as_i64().unwrap();
    let about = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(about.contains("NoNewPrivs:\t1"), "{about}");
    cli.ok("delete -f c");
    cli.assert_nothing_left();
}

/// Runs something that leaves a container behind, which would hold its output. Whether it succeeded.
fn quietly(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.unwrap().success()
}

/// Debian's runc, with states of its own.
fn runc(cli: &Cli, line: &str) -> Command {
    cli.bundle.options(); // writes config.json
    let folder = cli.bundle.dir.path();
    let mut command = Command::new("runc");
    command
        .arg("--root")
        .arg(folder.join("runc"))
        .args(["--criu", &criu()]);
    let words = line.split_whitespace();
    command.args(words.map(|word| word.replace("{}", folder.to_str().unwrap())));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

#[test]
fn either_restores_what_the_other_has_dumped() {
    if !criu_works("either restores what the other has dumped") {
        return;
    }
    let cli = Cli::sleeper();
    cli.start();
    cli.ok(&format!("--criu {} checkpoint --image-path {{}}/ours c", criu()));
    let restore = "restore -d --image-path {}/ours --work-path {}/work c";
    let log = || fs::read_to_string(cli.bundle.path("work/restore.log")).unwrap_or_default();
    assert!(quietly(&mut runc(&cli, restore)), "{}", log());
    let back = "checkpoint --image-path {}/theirs c";
    assert!(quietly(&mut runc(&cli, back)));
    let line = format!("--criu {} restore -d --image-path {{}}/theirs c", criu());
    assert!(quietly(&mut cli.command(&line)));
    assert_eq!(cli.status(), "running");
    let pid = cli.state()["pid"].as_i64().unwrap();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(command, b"sleep\x001000\x00");
    cli.ok("delete -f c");
    cli.assert_nothing_left();
}

#[test]
fn what_can_not_be_done_is_told_and_leaves_nothing() {
    let cli = Cli::sleeper();
    let done = cli.run("--criu /nowhere/criu checkpoint c");
    assert!(
        done.code == 1 && done.err.contains("container does not exist"),
        "{done:?}"
    );
    cli.start();
    let done = cli.run("--criu /nowhere/criu checkpoint --image-path {}/images c");
    assert!(
        done.code == 1 && done.err.contains("CRIU binary not found"),
        "{done:?}"
    );
    let done = cli.run("--criu /bin/true checkpoint --image-path {}/images c");
    assert!(
        done.code == 1 && done.err.contains("ended before it had answered"),
        "{done:?}"
    );
    assert_eq!(cli.status(), "running", "it goes on");
    cli.ok("delete -f c");
    let (done, _) = piped(&cli, "--criu /bin/true restore -d --image-path {}/images c");
    assert!(
        done.code == 1 && done.err.contains("ended before it had answered"),
        "{done:?}"
    );
    let (done, _) = piped(&cli, "--criu /bin/true restore -d --image-path {}/nothing c");
    assert!(done.code == 1 && done.err.contains("nothing"), "{done:?}");
    cli.assert_nothing_left();
}
