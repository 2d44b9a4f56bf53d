//! Real pods: exits, signals, lack of memory, failed starts, many containers, and what is left afterwards.
#![allow(clippy::unwrap_used)]

mod pod;
mod support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use pintle_runtime::Error;
use pintle_runtime::error::Kind;
use pintle_runtime::protocol::{ContainerStatus, Event, Exit, SandboxSetup};
use pod::{Pod, soon};
use serde_json::json;
use support::Bundle;

const ENDLESS: &str = "while :; do sleep 1000; done";

#[tokio::test]
async fn two_containers_of_a_pod_share_its_network_and_exit_each_for_itself() {
    let mut pod = Pod::new().await;
    let pinned = pod.dir.path().join("ns/net");
    let in_pod = |script: &str| {
        let mut bundle = Bundle::new(script);
        bundle.spec["linux"]["namespaces"][1] = json!({"type": "network", "path": pinned});
        bundle
    };
    let (one, two) = (
        in_pod("readlink /proc/self/ns/net; exit 3"),
        in_pod("readlink /proc/self/ns/net; kill -9 $$"),
    );
    pod.run("one", one).await;
    let exit = pod.exited("one").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, None, false));
    // process 1 of a pid namespace can't kill itself with a signal that it doesn't handle
    pod.run("two", two).await;
    assert_eq!(pod.exited("two").await.code, 0);
    assert_eq!(pod.log("one"), pod.log("two"));
    let record = fs::read(pod.bundles[0].path("exit.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Exit>(&record).unwrap(), exit);
    let state = soon(pod.client.state()).await.unwrap();
    assert!(
        state
            .containers
            .iter()
            .all(|c| c.status == ContainerStatus::Exited)
    );
    for id in ["one", "two"] {
        soon(pod.client.delete(id)).await.unwrap();
    }
    pod.shut_down().await;
}

#[tokio::test]
async fn signals_end_a_container_and_can_be_handled() {
    let mut pod = Pod::new().await;
    pod.run(
        "handler",
        Bundle::new("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"),
    )
    .await;
    for _ in 0..1000 {
        if !pod.log("handler").is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    pod.kill("handler", Signal::SIGTERM).await;
    assert_eq!(pod.exited("handler").await.code, 5);
    pod.run("killed", Bundle::new(ENDLESS)).await;
    pod.kill("killed", Signal::SIGKILL).await;
    let exit = pod.exited("killed").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), false));
    let error = soon(pod.client.kill("killed", 9, Default::default()))
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
        "{error}"
    );
    pod.shut_down().await;
}

#[tokio::test]
async fn a_container_without_memory_is_told_apart() {
    let mut pod = Pod::new().await;
    let mut hungry = Bundle::new("");
    hungry.set("/process/args", json!(["tail", "/dev/zero"]));
    hungry.set(
        "/linux/resources/memory",
        json!({"limit": 16 << 20, "swap": 16 << 20}),
    );
    pod.run("hungry", hungry).await;
    let exit = pod.exited("hungry").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
    pod.shut_down().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_an_exit_with_128() {
    let mut pod = Pod::new().await;
    let mut bundle = Bundle::new("");
    bundle.set("/process/args", json!(["/nope"]));
    pod.create("c", bundle).await.unwrap();
    let error = soon(pod.client.start("c")).await.unwrap_err();
    assert!(
        matches!(error, Error::Remote { kind: Kind::Exec, .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("/nope") && error.to_string().contains("no such file"),
        "{error}"
    );
    assert_eq!(pod.exited("c").await.code, 128);
    soon(pod.client.delete("c")).await.unwrap();
    pod.bundles[0].assert_nothing_left();
    pod.shut_down().await;
}

#[tokio::test]
async fn a_container_that_cannot_be_made_leaves_nothing() {
    let mut pod = Pod::new().await;
    let mut bundle = Bundle::new("true");
    bundle.add(
        "/mounts",
        json!({"destination": "/x", "type": "nofs", "source": "none"}),
    );
    let error = pod.create("c", bundle).await.unwrap_err();
    assert!(error.to_string().contains("nofs"), "{error}");
    pod.bundles[0].assert_nothing_left();
    assert_eq!(soon(pod.client.state()).await.unwrap().containers, []);
    pod.shut_down().await;
}

#[tokio::test]
async fn a_created_container_can_be_deleted() {
    let mut pod = Pod::new().await;
    let pid = pod.create("c", Bundle::new("true")).await.unwrap();
    soon(pod.client.delete("c")).await.unwrap();
    pod.bundles[0].assert_nothing_left();
    gone(pid).await;
    pod.shut_down().await;
}

#[tokio::test]
async fn a_program_starts_with_ordinary_signals_and_no_foreign_descriptors() {
    let mut pod = Pod::new().await;
    pod.run(
        "c",
        Bundle::new("grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/$$/fd; exec sleep 1000"),
    )
    .await;
    let mut lines = Vec::new();
    for _ in 0..1000 {
        lines = pod.log("c");
        if lines.len() >= 5 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(
        lines[..2].iter().all(|line| pod::has_no_signals(line)),
        "{lines:?}"
    );
    assert_eq!(lines[2..], ["stdout F 0", "stdout F 1", "stdout F 2"]);
    pod.shut_down().await;
}

#[tokio::test]
async fn a_hundred_containers_leave_no_zombie_and_no_descriptor() {
    let mut pod = Pod::new().await;
    let before = descriptors(pod.client.pid());
    let bundle = Bundle::new("sleep 0 & exit 9");
    for round in 0..100 {
        let id = format!("c{round}");
        let request = pod::request(&id, &bundle, pod.log_path("c"));
        soon(pod.client.create(request)).await.unwrap();
        soon(pod.client.start(&id)).await.unwrap();
        assert_eq!(pod.exited(&id).await.code, 9);
        soon(pod.client.delete(&id)).await.unwrap();
    }
    bundle.assert_nothing_left();
    assert_eq!(descriptors(pod.client.pid()), before);
    assert_eq!(children(pod.client.pid()), [] as [i32; 0]);
    pod.shut_down().await;
}

#[tokio::test]
async fn the_exit_of_a_process_in_a_shared_pid_namespace_ends_what_it_left_behind() {
    let mut pod = Pod::with(SandboxSetup {
        shared_pid: true,
        ..SandboxSetup::default()
    })
    .await;
    let mut bundle = Bundle::new("setsid sleep 1000 & echo started; exit 4");
    bundle.spec["linux"]["namespaces"][0] = json!({"type": "pid", "path": pod.dir.path().join("ns/pid")});
    pod.run("c", bundle).await;
    assert_eq!(pod.exited("c").await.code, 4);
    assert_eq!(pod.log("c"), ["stdout F started"]);
    for _ in 0..1000 {
        if pod::processes(&pod.bundles[0]).is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(pod::processes(&pod.bundles[0]), [] as [i32; 0]);
    soon(pod.client.delete("c")).await.unwrap();
    let init = soon(pod.client.state()).await.unwrap().init_pid.unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), Signal::SIGKILL).unwrap();
    assert!(matches!(
        soon(pod.events.next()).await,
        Some(Event::SandboxInitExited { .. })
    ));
    pod.shut_down().await;
}

#[tokio::test]
async fn a_shutdown_kills_what_runs_and_removes_everything() {
    let mut pod = Pod::with(SandboxSetup {
        shared_pid: true,
        ..SandboxSetup::default()
    })
    .await;
    pod.run("running", Bundle::new(ENDLESS)).await;
    pod.create("created", Bundle::new(ENDLESS)).await.unwrap();
    let record = pod.bundles[0].path("exit.json");
    soon(pod.client.shutdown()).await.unwrap();
    let exit: Exit = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert_eq!(exit.signal, Some(9));
    pod.shut_down().await;
}

#[tokio::test]
async fn what_a_monitor_looks_like_from_outside() {
    let pod = Pod::new().await;
    let pid = pod.client.pid();
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    assert_eq!(read("comm").trim(), "pintle-monitor");
    assert!(read("cmdline").ends_with("--id\0pod1\0"), "{}", read("cmdline"));
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(),
        Some("/")
    );
    let stat = read("stat");
    let session = stat[stat.rfind(')').unwrap()..]
        .split(' ')
        .nth(4)
        .unwrap()
        .to_owned();
    assert_eq!(session, pid.to_string(), "a session of its own");
    assert_eq!(
        fs::read_to_string(pod.dir.path().join("monitor.pid"))
            .unwrap()
            .trim(),
        pid.to_string()
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(pod.dir.path().join("monitor.sock"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }
    let second = Command::new(env!("CARGO_BIN_EXE_pintle-monitor"))
        .args(["--id", "pod1", "--dir"])
        .arg(pod.dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && text.contains("another monitor runs"),
        "{text}"
    );
    let state = soon(pod.client.state()).await.unwrap();
    assert_eq!(state.pid, pid, "the first one is unharmed");
    pod.shut_down().await;
}

#[test]
fn a_monitor_whose_daemon_dies_before_there_is_a_sandbox_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut monitor = Command::new(env!("CARGO_BIN_EXE_pintle-monitor"))
        .args(["--id", "pod1", "--dir"])
        .arg(dir.path())
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    drop(ours);
    assert!(monitor.wait().unwrap().success());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|p| p.parse().unwrap()).collect()
}

async fn gone(pid: i32) {
    for _ in 0..1000 {
        if !fs::exists(format!("/proc/{pid}")).unwrap() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("process {pid} is left");
}
