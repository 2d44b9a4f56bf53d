//! What the tests of `pintle-oci` share: the program, a folder of states, and a bundle, gone when dropped.
#![allow(dead_code, unreachable_pub)] // each test program uses a part
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::Bundle;

pub struct Cli {
    pub bundle: Bundle,
    pub root: tempfile::TempDir,
}

impl Cli {
    /// With a container that runs `script`.
    pub fn new(script: &str) -> Self {
        Self {
            bundle: Bundle::new(script),
            root: tempfile::Builder::new().prefix("pintle-oci-").tempdir().unwrap(),
        }
    }

    /// With a container that runs until it is killed.
    pub fn sleeper() -> Self {
        let mut cli = Self::new("");
        cli.bundle.set("/process/args", json!(["sleep", "1000"]));
        cli
    }

    pub fn states(&self) -> PathBuf {
        self.root.path().join("states")
    }

    /// The program in the bundle's folder; `{}` in a word is that folder.
    pub fn command(&self, line: &str) -> Command {
        self.bundle.options(); // writes config.json
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintle-oci"));
        let folder = self.bundle.dir.path().to_str().unwrap();
        command.arg("--root").arg(self.states());
        command.args(line.split_whitespace().map(|word| word.replace("{}", folder)));
        command.current_dir(self.bundle.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end. What it starts must not hold its output open.
    pub fn run(&self, line: &str) -> Done {
        Done::of(bounded(&mut self.command(line)))
    }

    /// Runs something that must succeed; its output.
    pub fn ok(&self, line: &str) -> String {
        let done = self.run(line);
        assert_eq!(done.code, 0, "{line}: {done:?}");
        done.out
    }

    /// `create`, whose output the container's process keeps.
    pub fn create(&self) {
        let status = self
            .command("create c")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn start(&self) {
        self.create();
        self.ok("start c");
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.ok("state c")).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits within a bound for the container to be in a state.
    pub fn wait_for(&self, status: &str) {
        for _ in 0..1000 {
            if self.status() == status {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it is {} and not {status}", self.status());
    }

    pub fn assert_nothing_left(&self) {
        self.bundle.assert_nothing_left();
        let left: Vec<_> = std::fs::read_dir(self.states())
            .map(|entries| {
                entries
                    .flatten()
                    .map(|e| e.file_name())
                    .filter(|n| n != ".seccomp")
                    .collect()
            })
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let _ = self.command("delete -f c").output();
    }
}

/// The output of a command that must end; a bound, so that one which hangs fails the test instead of hanging it.
pub fn bounded(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(std::time::Duration::from_secs(60)) {
        Ok(output) => output.unwrap(),
        Err(_) => panic!("process {pid} doesn't end, or something holds its output: {command:?}"),
    }
}

#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
