//! `pintle events`: what it shows, over the daemon's end and beginning.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pintle_tests::child::Child;
use pintle_tests::pod;
use pintle_tests::server::Kind;
use pintle_tests::wait;
use pintle_tests::world::{self, World};
use serde_json::Value;

fn program() -> Result<PathBuf> {
    let folder = std::env::var_os("PINTLE_BIN").context("PINTLE_BIN is not set")?;
    Ok(PathBuf::from(folder).join("pintle"))
}

fn arguments<'a>(w: &'a World, more: &[&'a str]) -> Vec<&'a str> {
    let socket = w.server.socket().to_str().unwrap_or_default();
    [&["--socket", socket, "events"], more].concat()
}

/// A command line that goes on, and what it has shown so far.
struct Shown {
    child: Child,
    output: PathBuf,
}

impl Shown {
    /// Starts one, and waits until it listens.
    fn start(w: &World, name: &str, more: &[&str]) -> Result<Shown> {
        let output = w.slot.root().join(name);
        let program = program()?;
        let child = Child::spawn(&program.to_string_lossy(), &arguments(w, more), &output)?;
        Ok(Shown { child, output })
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits for so many lines, and reads them as JSON.
    fn json(&mut self, count: usize) -> Result<Vec<Value>> {
        let waited = wait::until(&format!("{count} lines"), wait::PATIENCE, || {
            self.lines().len() >= count
        });
        let lines = self.lines();
        waited.with_context(|| format!("{lines:?}"))?;
        let parse = |line: &String| serde_json::from_str(line).with_context(|| line.clone());
        lines.iter().map(parse).collect()
    }
}

fn short(lines: &[Value]) -> Vec<String> {
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or("-").to_owned();
    lines
        .iter()
        .map(|line| format!("{} {}", word(line, "kind"), word(line, "type")))
        .collect()
}

/// What a command line prints that ends by itself.
fn output(w: &World, more: &[&str]) -> Result<String> {
    let output = Command::new(program()?).args(arguments(w, more)).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{more:?}: {error}");
    Ok(format!("{}{error}", String::from_utf8(output.stdout)?))
}

/// Events of the pods of a test, in a life of each: created and started, and the same for its container.
const BEGIN: [&str; 4] = [
    "pod created",
    "pod started",
    "container created",
    "container started",
];
const END: [&str; 4] = [
    "container stopped",
    "container deleted",
    "pod stopped",
    "pod deleted",
];

#[tokio::test(flavor = "multi_thread")]
async fn shows_a_life_and_what_is_chosen_of_it() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let config = pod::pod(&w.slot, "shown");
        let namespace = config.metadata.clone().context("the pod's metadata")?.namespace;
        let failing = pod::shell("main", &image, "exit 7");
        let running = w.run(config, &failing).await?;
        w.wait_exited(&running.container).await?;
        w.cri.remove(&running.container).await?;
        w.remove(&running.pod).await?;
        w.run(pod::pod(&w.slot, "another"), &pod::idle("side", &image))
            .await?;

        let all = output(w, &["--since", "1h", "--pod", "shown", "-o", "json", "-n", "8"])?;
        let (lost, all): (Vec<_>, Vec<_>) = all
            .lines()
            .map(serde_json::from_str::<Value>)
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .partition(|line| line["type"] == "gap");
        ensure!(lost.len() == 1, "nobody knows what was an hour ago: {lost:?}");
        ensure!(short(&all) == [BEGIN, END].concat(), "{all:?}");
        let (stopped, deleted) = (&all[4], &all[5]);
        ensure!(stopped["container"]["exitCode"] == 7, "{stopped}");
        ensure!(stopped["container"]["name"] == "main" && stopped["pod"]["name"] == "shown");
        ensure!(
            deleted["container"]["name"] == "main",
            "also when it is gone: {deleted}"
        );
        ensure!(stopped["id"] == running.container.as_str());

        let token = all[1]["token"].as_str().context("a token")?;
        let time = all[1]["time"].as_str().context("a time")?;
        for since in [token, time] {
            let chosen = [
                "--since",
                since,
                "--container",
                "main",
                "--type",
                "stopped",
                "-n",
                "1",
            ];
            let line = output(w, &chosen)?;
            let end = format!("  {namespace}/shown/main  exit code 7, Error");
            ensure!(
                line.trim_end().ends_with(&end) && line.lines().count() == 1,
                "{line}"
            );
        }
        let by_id = &running.pod[..12];
        let first = output(w, &["--since", token, "-p", by_id, "-n", "1", "-o", "json"])?;
        ensure!(short(&[serde_json::from_str(&first)?]) == BEGIN[2..3], "{first}");
        ensure!(output(w, &["--since", "yesterday"]).is_err(), "that is no moment");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_with_the_next_daemon_and_says_what_is_lost() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let mut shown = Shown::start(w, "events.json", &["-o", "json", "--since", "1h"])?;
        shown.json(1)?;
        let running = w
            .run(pod::pod(&w.slot, "going"), &pod::idle("main", &image))
            .await?;
        let before = shown.json(5)?;
        ensure!(
            before[0]["type"] == "gap" && short(&before[1..]) == BEGIN,
            "{before:?}"
        );
        // Killed, and told to end: it goes on after either.
        w.restart().await?;
        w.cri.stop(&running.container, 0).await?;
        let after = shown.json(7)?;
        ensure!(after[5]["type"] == "gap", "{after:?}");
        ensure!(
            after[5]["after"] == after[4]["token"],
            "the last that was had: {after:?}"
        );
        ensure!(short(&after[6..]) == END[..1], "{after:?}");
        ensure!(after[6]["container"]["name"] == "main", "{after:?}");
        w.server.terminate(wait::scaled(wait::PATIENCE))?;
        w.start().await?;
        w.remove(&running.pod).await?;
        let ended = shown.json(11)?;
        ensure!(ended[7]["type"] == "gap", "{ended:?}");
        let rest = ["pod stopped", "container deleted", "pod deleted"];
        ensure!(short(&ended[8..]) == rest, "{ended:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_with_its_reader_and_needs_a_daemon() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        let script = "\"$@\" | head -n 1; echo ${PIPESTATUS[0]}";
        let program = program()?;
        let mut reader = Command::new("bash");
        reader
            .args(["-c", script, "bash"])
            .arg(&program)
            .args(arguments(w, &["--since", "1h", "-o", "json"]));
        let mut reader = reader.stdout(std::process::Stdio::piped()).spawn()?;
        w.run(pod::pod(&w.slot, "piped"), &pod::idle("main", &image))
            .await?;
        wait::until("the end of the pipe", wait::PATIENCE, || {
            reader.try_wait().is_ok_and(|status| status.is_some())
        })?;
        let said = reader.wait_with_output()?;
        let said = String::from_utf8(said.stdout)?;
        ensure!(said.lines().last() == Some("0"), "no error: {said}");

        w.server.kill();
        let mut alone = Shown::start(w, "alone", &[])?;
        let status = alone.child.wait(Duration::from_secs(20))?;
        let words = alone.lines().concat();
        ensure!(
            !status.success() && words.contains("is pintled running?"),
            "{words}"
        );
        w.start().await
    })
    .await;
}
