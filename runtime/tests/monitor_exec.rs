//! Real execs: output of any length, exit codes, and no process left when one is killed or given up.
#![allow(clippy::unwrap_used)]

mod pod;
mod support;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pintle_runtime::Error;
use pintle_runtime::error::Kind;
use pod::{Pod, exec_request, null, soon};
use support::Bundle;

const ENDLESS: &str = "while :; do sleep 1000; done";

/// A container of one process.
fn sleeper() -> Bundle {
    let mut bundle = Bundle::new("");
    bundle.set("/process/args", serde_json::json!(["sleep", "1000"]));
    bundle
}

/// Runs to the end; exit code, stdout, stderr.
async fn run(pod: &Pod, exec_id: &str, script: &str) -> (i32, Vec<u8>, Vec<u8>) {
    run_args(pod, exec_id, &["sh", "-c", script]).await
}

async fn run_args(pod: &Pod, exec_id: &str, args: &[&str]) -> (i32, Vec<u8>, Vec<u8>) {
    let (out, out_end) = std::io::pipe().unwrap();
    let (err, err_end) = std::io::pipe().unwrap();
    let request = exec_request("c", exec_id, args);
    let stdio = [null(), OwnedFd::from(out_end), OwnedFd::from(err_end)];
    let mut exec = soon(pod.client.exec(request, stdio)).await.unwrap();
    let read = |pipe: std::io::PipeReader| {
        tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            { pipe }.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let (out, err) = (read(out), read(err));
    let exit = soon(exec.wait()).await.unwrap();
    (exit.code, soon(out).await.unwrap(), soon(err).await.unwrap())
}

#[tokio::test]
async fn output_of_any_length_and_every_exit_code_arrive() {
    let mut pod = Pod::new().await;
    let init = pod.run("c", Bundle::new(ENDLESS)).await;
    let (code, out, err) = run(&pod, "long", "head -c 3000000 /dev/zero; echo oops >&2; exit 41").await;
    assert_eq!((code, out.len(), err.as_slice()), (41, 3_000_000, &b"oops\n"[..]));
    let (code, ..) = run(&pod, "signal", "kill -TERM $$").await;
    assert_eq!(code, 143);
    let script = "readlink /proc/self/ns/pid; ls /proc/self/fd; hostname";
    let (_, out, _) = run(&pod, "namespaces", script).await;
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let of_init = std::fs::read_link(format!("/proc/{init}/ns/pid")).unwrap();
    assert_eq!(lines[0], of_init.to_str().unwrap());
    assert_eq!(lines[1..], ["0", "1", "2", "3", "box"], "3 is ls's own");
    let args = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"];
    let (code, out, _) = run_args(&pod, "signals", &args).await;
    assert_eq!(code, 0);
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(pod::has_no_signals), "{text}");
    pod.shut_down().await;
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_and_leaves_nothing() {
    let mut pod = Pod::new().await;
    let init = pod.run("c", sleeper()).await;
    let nope = exec_request("c", "nope", &["/nope"]);
    let error = soon(pod.client.exec(nope, [null(), null(), null()]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Remote { kind: Kind::Exec, .. }),
        "{error:?}"
    );
    let nobody = exec_request("nobody", "x", &["true"]);
    let error = soon(pod.client.exec(nobody, [null(), null(), null()]))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Remote {
                kind: Kind::NotFound,
                ..
            }
        ),
        "{error:?}"
    );
    no_live_process_but(&pod, init).await;
    pod.create("waiting", Bundle::new("true")).await.unwrap();
    let early = exec_request("waiting", "x", &["true"]);
    let error = soon(pod.client.exec(early, [null(), null(), null()]))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Remote {
                kind: Kind::InvalidState,
                ..
            }
        ),
        "{error:?}"
    );
    pod.shut_down().await;
}

#[tokio::test]
async fn a_killed_exec_leaves_no_descendant() {
    let mut pod = Pod::new().await;
    let init = pod.run("c", sleeper()).await;
    // the last one has left the session and lost its parent
    let script = "sleep 1000 & setsid sh -c 'sleep 1000 & wait' & (sleep 1000 & sleep 1000) & \
                  setsid sh -c 'sleep 1000 &' & wait";
    let exec = exec_request("c", "tree", &["sh", "-c", script]);
    let mut exec = soon(pod.client.exec(exec, [null(), null(), null()]))
        .await
        .unwrap();
    for _ in 0..1000 {
        let running = pod::processes(&pod.bundles[0]);
        let is_sleeping = |pid: &&i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
        };
        if running.iter().filter(is_sleeping).count() == 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    soon(exec.kill()).await.unwrap();
    assert_eq!(soon(exec.wait()).await.unwrap().code, 137);
    no_live_process_but(&pod, init).await;

    let given_up = exec_request("c", "given-up", &["sh", "-c", "sleep 1000; true"]);
    drop(
        soon(pod.client.exec(given_up, [null(), null(), null()]))
            .await
            .unwrap(),
    );
    soon(pod.events.next()).await.unwrap();
    no_live_process_but(&pod, init).await;
    pod.shut_down().await;
}

/// Zombies of the container's own init, which reaps nothing here, don't count.
async fn no_live_process_but(pod: &Pod, init: i32) {
    let lives = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        *pid != init && !stat.is_empty() && !stat.contains(") Z ")
    };
    for _ in 0..1000 {
        if !pod::processes(&pod.bundles[0]).iter().any(lives) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("processes are left: {:?}", pod::processes(&pod.bundles[0]));
}

#[tokio::test]
async fn many_execs_at_once_keep_their_streams_apart() {
    let mut pod = Pod::new().await;
    pod.run("c", Bundle::new(ENDLESS)).await;
    let runs = (0..20).map(|i| {
        let client = pod.client.clone();
        tokio::spawn(async move {
            let (out, end) = std::io::pipe().unwrap();
            let request = exec_request("c", &format!("e{i}"), &["echo", &i.to_string()]);
            let mut exec = client.exec(request, [null(), end.into(), null()]).await.unwrap();
            assert_eq!(exec.wait().await.unwrap().code, 0);
            let mut text = String::new();
            File::from(OwnedFd::from(out)).read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("{i}\n"));
        })
    });
    for run in runs.collect::<Vec<_>>() {
        soon(run).await.unwrap();
    }
    pod.shut_down().await;
}
