//! Attach: to terminals and pipes, several clients, stdin_once, clients that leave.

use anyhow::{Result, ensure};
use k8s_cri::v1::{AttachRequest, ContainerConfig, ContainerState};
use pintle_tests::stream::remote::{self, Session, attach_request};
use pintle_tests::stream::spdy::Event;
use pintle_tests::stream::ws::Ws;
use pintle_tests::world::{self, Running, World};
use pintle_tests::{pod, wait};
use tonic::Code;

async fn run(w: &World, change: impl FnOnce(&mut ContainerConfig)) -> Result<Running> {
    let image = w.busybox().await?;
    let mut config = pod::container("one", &image, &["/bin/sh"]);
    config.stdin = true;
    change(&mut config);
    w.run(pod::pod(&w.slot, "attach"), &config).await
}

fn terminal(container: &str) -> AttachRequest {
    AttachRequest {
        tty: true,
        stderr: false,
        ..attach_request(container)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_carries_both_outputs_and_its_end_is_the_shells() {
    world::test(async |w| {
        let running = run(w, |config| config.stdin_once = true).await?;
        let mut session = Session::attach(&w.cri, attach_request(&running.container)).await?;
        session.stdin()?.write(b"echo hello\n").await?;
        let said = session.stdout()?.read_until("\n").await?;
        ensure!(said == "hello\n", "nothing but that: {said:?}");
        session.stdin()?.write(b"echo oops >&2\n").await?;
        session.stdin()?.finish().await?;
        let (stdout, stderr, code) = session.finish().await?;
        ensure!(
            stdout.is_empty() && stderr == b"oops\n" && code == 0,
            "{stdout:?} {stderr:?} {code}"
        );
        ensure!(w.wait_exited(&running.container).await?.exit_code == 0);
        ensure!(
            running.lines()? == ["hello"],
            "the log has it too: {:?}",
            running.lines()?
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_stays_open_for_the_next_client_unless_it_is_for_one() {
    world::test(async |w| {
        let running = run(w, |_| {}).await?;
        for word in ["first", "second"] {
            let mut session = Session::attach(&w.cri, attach_request(&running.container)).await?;
            session
                .stdin()?
                .write(format!("echo {word}\n").as_bytes())
                .await?;
            let said = session.stdout()?.read_until("\n").await?;
            ensure!(said == format!("{word}\n"), "no history: {said:?}");
            session.spdy.vanish().await?;
        }
        let status = w.cri.status(&running.container).await?;
        ensure!(
            status.state() == ContainerState::ContainerRunning,
            "leaving is not stopping"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_ends_input_that_was_for_one() {
    world::test(async |w| {
        let running = run(w, |config| config.stdin_once = true).await?;
        let mut session = Session::attach(&w.cri, attach_request(&running.container)).await?;
        session.stdin()?.write(b"echo there\n").await?;
        session.stdout()?.read_until("there").await?;
        session.spdy.vanish().await?;
        ensure!(w.wait_exited(&running.container).await?.exit_code == 0);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_closed_its_outputs_still_reads() {
    world::test(async |w| {
        let script = "exec > /tmp/got 2> /dev/null; cat; sleep 86400";
        let running = run(w, |config| {
            config.stdin_once = true;
            config.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        })
        .await?;
        let mut session = Session::attach(&w.cri, attach_request(&running.container)).await?;
        session.stdin()?.write(b"one ").await?;
        ensure!(session.stdout()?.next().await? == Event::Fin);
        session.stdin()?.write(b"two").await?;
        session.stdin()?.finish().await?;
        let status = session.error.read_to_end().await?;
        ensure!(
            remote::exit_code(&status)? == 0,
            "the session ends with its input"
        );
        wait::until_some("all of the input", wait::PATIENCE, || async {
            let got = w.exec(&running.container, &["cat", "/tmp/got"]).await.ok()?;
            (got == "one two").then_some(())
        })
        .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clients_share_a_terminal() {
    world::test(async |w| {
        let running = run(w, |config| config.tty = true).await?;
        let mut one = Session::attach(&w.cri, terminal(&running.container)).await?;
        let mut two = Session::attach(&w.cri, terminal(&running.container)).await?;
        one.resize(93, 41).await?;
        one.stdin()?
            .write(b"until stty size | grep '41 93'; do :; done\n")
            .await?;
        for session in [&mut one, &mut two] {
            session.stdout()?.read_until("\r\n41 93\r\n").await?;
        }
        drop(one.spdy.vanish().await);
        two.stdin()?.write(b"echo al''one; exit 3\n").await?;
        two.stdout()?.read_until("alone").await?;
        let (_, _, code) = two.finish().await?;
        ensure!(code == 0, "attach has no exit code of its own: {code}");
        ensure!(w.wait_exited(&running.container).await?.exit_code == 3);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_attaches_too() {
    world::test(async |w| {
        let running = run(w, |config| config.stdin_once = true).await?;
        let url = remote::attach_url(&w.cri, attach_request(&running.container)).await?;
        let mut ws = Ws::connect(&url, "v5.channel.k8s.io").await?;
        ws.write(0, b"echo over a websocket; exit\n").await?;
        let all = ws.read_to_end().await?;
        ensure!(all[&1] == b"over a websocket\n", "{all:?}");
        ensure!(remote::exit_code(&all[&3])? == 0, "{all:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_does_not_stop_the_container() {
    world::test(async |w| {
        let running = run(w, |_| {}).await?;
        // A WebSocket that is never read from.
        let url = remote::attach_url(&w.cri, attach_request(&running.container)).await?;
        let mut deaf = Ws::connect(&url, "v4.channel.k8s.io").await?;
        deaf.write(0, b"seq 1 2000000; touch /tmp/done; exit 8\n").await?;
        ensure!(w.wait_exited(&running.container).await?.exit_code == 8);
        ensure!(running.lines()?.len() == 2_000_000, "the log is whole");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_running_containers_can_be_attached_to() {
    world::test(async |w| {
        let running = run(w, |_| {}).await?;
        let mut session = Session::attach(&w.cri, attach_request(&running.container)).await?;
        w.cri.stop(&running.container, 0).await?;
        // The end of the container is that of the session.
        while session.stdout()?.next().await? != Event::Fin {}
        ensure!(remote::exit_code(&session.error.read_to_end().await?)? == 0);
        let error = remote::attach_url(&w.cri, attach_request(&running.container))
            .await
            .expect_err("it has ended");
        ensure!(error.code() == Code::FailedPrecondition, "{error:?}");
        let error = remote::attach_url(&w.cri, attach_request(&"f".repeat(64)))
            .await
            .expect_err("there is none");
        ensure!(error.code() == Code::NotFound, "{error:?}");
        Ok(())
    })
    .await;
}
