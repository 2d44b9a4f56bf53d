//! CVE-2019-5736: the program that makes containers, seen from inside one through `/proc/<pid>/exe`.
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

mod pod;
mod support;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use pintle_runtime::client::{MonitorClient, SpawnOptions};
use pintle_runtime::protocol::SandboxSetup;
use pod::{request, soon};
use serde_json::json;
use support::Bundle;

/// What an attacker holds on to: the program of a process.
fn grasp(pid: i32) -> File {
    let file = File::open(format!("/proc/{pid}/exe")).unwrap();
    assert!(
        fstatvfs(&file).unwrap().flags().contains(FsFlags::ST_RDONLY),
        "{pid}"
    );
    file
}

/// Opens for writing what is held, by way of the descriptor.
fn open_for_writing(held: &File) -> Option<i32> {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .err()
        .and_then(|e| e.raw_os_error())
}

#[tokio::test]
async fn cve_2019_5736_nobody_writes_to_our_program_through_its_processes() {
    let dir = tempfile::Builder::new().prefix("pintle-pod-").tempdir().unwrap();
    // a copy, which no other test executes
    let program = dir.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_pintle-monitor"), &program).unwrap();
    let before = fs::read(&program).unwrap();
    let options = SpawnOptions {
        program: program.clone().into(),
        blank: None,
        dir: dir.path().to_owned(),
        id: "pod1".to_owned(),
    };
    let (client, _events) = MonitorClient::spawn(&options).await.unwrap();
    soon(client.setup_sandbox(SandboxSetup::default())).await.unwrap();
    let bundle = Bundle::new("sleep 1000");
    let waiting = soon(client.create(request("waiting", &bundle, dir.path().join("log"))))
        .await
        .unwrap();
    let held = [grasp(client.pid()), grasp(waiting)];
    // the very same file, not a copy of it in memory
    let (file, runs) = (fs::metadata(&program).unwrap(), held[0].metadata().unwrap());
    assert_eq!((file.ino(), file.dev()), (runs.ino(), runs.dev()));

    // an image whose program is whatever executes it
    let mut evil = Bundle::new("");
    evil.set(
        "/process/args",
        json!(["/proc/self/exe", "--dir", "/tmp", "--id", "x"]),
    );
    let pid = soon(client.create(request("evil", &evil, dir.path().join("log2"))))
        .await
        .unwrap();
    let _ = soon(client.start("evil")).await; // a program that isn't static finds no loader in there
    let alive = fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false);
    assert!(
        !alive || File::open(format!("/proc/{pid}/exe")).is_err() || open_for_writing(&grasp(pid)).is_some()
    );

    soon(client.shutdown()).await.unwrap();
    for held in &held {
        // while it runs it is busy, and then it is still read-only
        let mut last = None;
        for _ in 0..1000 {
            last = open_for_writing(held);
            if last != Some(Errno::ETXTBSY as i32) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(last, Some(Errno::EROFS as i32));
    }
    assert_eq!(fs::read(&program).unwrap(), before);
    for bundle in [&bundle, &evil] {
        bundle.assert_nothing_left();
    }
}
