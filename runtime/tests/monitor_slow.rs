//! A container that can't be finished: whoever asked for it waits, and nobody else.
#![allow(clippy::unwrap_used)]

mod pod;
mod support;

use nix::sys::stat::Mode;
use pintle_runtime::error::Kind;
use pintle_runtime::protocol::KillScope;
use pintle_runtime::{Error, protocol::ContainerStatus};
use pod::{Pod, exec_request, null, soon};
use support::Bundle;

/// A request that hangs as a mount can: opening a pipe that nobody writes.
fn hanging(pod: &mut Pod, id: &str) -> pintle_runtime::protocol::CreateContainer {
    let bundle = Bundle::new("true");
    let fifo = bundle.path("filter");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut request = pod::request(id, &bundle, pod.log_path(id));
    request.seccomp_filter = Some(fifo);
    pod.bundles.push(bundle);
    request
}

#[tokio::test]
async fn the_pod_goes_on_while_a_container_hangs_in_the_making() {
    let mut pod = Pod::new().await;
    let client = pod.client.clone();
    let request = hanging(&mut pod, "hangs");
    let creating = tokio::spawn(async move { client.create(request).await });
    pod.run("c", Bundle::new("echo one; exec sleep 1000")).await;
    let mut exec = soon(
        pod.client
            .exec(exec_request("c", "e", &["true"]), [null(), null(), null()]),
    )
    .await
    .unwrap();
    assert_eq!(soon(exec.wait()).await.unwrap().code, 0);
    let state = soon(pod.client.state()).await.unwrap();
    assert_eq!(state.containers.len(), 1);
    assert_eq!(state.containers[0].status, ContainerStatus::Running);
    soon(pod.client.kill("c", 9, KillScope::All)).await.unwrap();
    assert_eq!(pod.exited("c").await.code, 137);
    assert_eq!(pod.log("c"), ["stdout F one"]);
    assert!(!creating.is_finished());

    soon(pod.client.kill("hangs", 9, KillScope::Init)).await.unwrap();
    let error = soon(creating).await.unwrap().unwrap_err();
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
    pod.bundles[0].assert_nothing_left();
    pod.shut_down().await;
}

#[tokio::test]
async fn one_that_hangs_can_be_deleted_and_its_name_used_again() {
    let mut pod = Pod::new().await;
    let client = pod.client.clone();
    let request = hanging(&mut pod, "c");
    let creating = tokio::spawn(async move { client.create(request).await });
    // until the request has arrived there is nothing to delete
    while soon(pod.client.delete("c")).await.is_err() {
        tokio::task::yield_now().await;
    }
    soon(creating).await.unwrap().unwrap_err();
    pod.run("c", Bundle::new("exit 3")).await;
    assert_eq!(pod.exited("c").await.code, 3);
    pod.shut_down().await;
}

#[tokio::test]
async fn a_shutdown_ends_it() {
    let mut pod = Pod::new().await;
    let client = pod.client.clone();
    let request = hanging(&mut pod, "hangs");
    let creating = tokio::spawn(async move { client.create(request).await });
    tokio::task::yield_now().await;
    pod.shut_down().await;
    soon(creating).await.unwrap().unwrap_err();
}
