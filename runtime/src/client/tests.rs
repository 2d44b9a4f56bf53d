//! The client against a real loop with a backend that the tests play.

mod attach;

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::*;
use crate::monitor::fake::{Pod, code as ending};
use crate::protocol::{ErrorKind, Event, SOCKET_NAME};

fn exec_request(container: &str, exec_id: &str) -> ExecRequest {
    let process = serde_json::from_str(r#"{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"}"#).unwrap();
    ExecRequest {
        container: container.into(),
        exec_id: exec_id.into(),
        process,
        seccomp_filter: None,
    }
}

fn null() -> [OwnedFd; 3] {
    [0; 3].map(|_| std::fs::File::open("/dev/null").unwrap().into())
}

async fn running(pod: &Pod, id: &str) -> (MonitorClient, Events) {
    let (client, events) = MonitorClient::connect(pod.dir.path()).await.unwrap();
    client.create(pod.container(id)).await.unwrap();
    client.start(id).await.unwrap();
    (client, events)
}

/// Within a bound, so that a lost wake-up fails the test instead of hanging it.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it never came")
}

#[tokio::test]
async fn calls_events_and_the_end() {
    let pod = Pod::new();
    let (client, mut events) = running(&pod, "c").await;
    assert_eq!(client.pid(), std::process::id().cast_signed());
    let error = client.start("c").await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Remote {
                kind: ErrorKind::InvalidState,
                ..
            }
        ),
        "{error}"
    );
    pod.end("c", ending(3));
    let Some(Event::ContainerExited { exit, .. }) = soon(events.next()).await else {
        panic!("no exit")
    };
    assert_eq!(exit.code, 3);
    assert_eq!(client.state().await.unwrap().containers[0].exit, Some(exit));
    client.shutdown().await.unwrap();
    assert_eq!(soon(events.next()).await, None);
    assert!(matches!(client.state().await, Err(Error::MonitorGone)));
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn dropped_calls_leave_the_connection_in_order() {
    let pod = Pod::new();
    let (client, _events) = running(&pod, "c").await;
    for round in 0..200 {
        let call = client.state();
        // polled zero times, once, or to its end
        match round % 3 {
            0 => drop(call),
            1 => drop(tokio::time::timeout(Duration::ZERO, call).await),
            _ => assert_eq!(call.await.unwrap().containers.len(), 1),
        }
    }
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn an_exec_is_waited_for_killed_or_left() {
    let pod = Pod::new();
    let (client, mut events) = running(&pod, "c").await;
    let mut exec = client.exec(exec_request("c", "waited"), null()).await.unwrap();
    assert!(exec.pid() > 0);
    pod.end("waited", ending(7));
    assert_eq!(soon(exec.wait()).await.unwrap().code, 7);

    let mut exec = client.exec(exec_request("c", "killed"), null()).await.unwrap();
    let twice = client
        .exec(exec_request("c", "killed"), null())
        .await
        .unwrap_err();
    assert!(
        matches!(
            twice,
            Error::Remote {
                kind: ErrorKind::AlreadyExists,
                ..
            }
        ),
        "{twice}"
    );
    exec.kill().await.unwrap();
    assert_eq!(soon(exec.wait()).await.unwrap().signal, Some(9));
    exec.kill().await.unwrap();

    // dropped: killed, and its exit is an ordinary event
    drop(client.exec(exec_request("c", "dropped"), null()).await.unwrap());
    let Some(Event::ExecExited { exec_id, exit }) = soon(events.next()).await else {
        panic!("no exit")
    };
    assert_eq!((exec_id.as_str(), exit.code), ("dropped", 137));

    client
        .exec(exec_request("c", "detached"), null())
        .await
        .unwrap()
        .detach();
    pod.end("detached", ending(0));
    let Some(Event::ExecExited { exec_id, exit }) = soon(events.next()).await else {
        panic!("no exit")
    };
    assert_eq!((exec_id.as_str(), exit.code), ("detached", 0));
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn an_exec_whose_call_is_dropped_is_killed() {
    let pod = Pod::new();
    let (client, _events) = running(&pod, "c").await;
    drop(tokio::time::timeout(Duration::ZERO, client.exec(exec_request("c", "given-up"), null())).await);
    // Where it was killed before it became a process nobody is told; but its id is free again.
    let again = soon(async {
        loop {
            match client.exec(exec_request("c", "given-up"), null()).await {
                Ok(exec) => return exec,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    again.await.detach();
    client.shutdown().await.unwrap();
    pod.join();
}

#[tokio::test]
async fn when_the_monitor_goes_everybody_who_waits_learns_it() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
    let mute = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(stream);
    });
    let error = soon(MonitorClient::connect(dir.path())).await.unwrap_err();
    assert!(matches!(error, Error::MonitorGone), "{error}");
    mute.await.unwrap();
    let error = MonitorClient::connect(dir.path()).await.unwrap_err().to_string();
    assert!(
        error.contains("connect to") && error.contains(SOCKET_NAME),
        "{error}"
    );
    let error = MonitorClient::connect(&dir.path().join("nothing"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no such file or directory"), "{error}");
}

#[tokio::test]
async fn the_connection_ends_with_its_last_owner() {
    let pod = Pod::new();
    let (client, events) = running(&pod, "c").await;
    let other = client.clone();
    drop((client, events));
    assert_eq!(other.state().await.unwrap().containers.len(), 1);
    drop(other);
    let (client, _events) = MonitorClient::connect(pod.dir.path()).await.unwrap();
    client.shutdown().await.unwrap();
    pod.join();
}
