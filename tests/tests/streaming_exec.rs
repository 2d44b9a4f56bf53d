//! Exec with streams: codes, much data, terminals, clients that leave or don't read.

use anyhow::{Context, Result, ensure};
use pintle_tests::stream::remote::{self, Kind, Session, exec_request, on_terminal};
use pintle_tests::stream::spdy::{Event, Spdy};
use pintle_tests::stream::ws::Ws;
use pintle_tests::wait::{self, PATIENCE};
use pintle_tests::world::{self, Running, World};
use pintle_tests::{host, pod};
use tokio_tungstenite::tungstenite::Message;
use tonic::Code;

async fn idle(w: &World) -> Result<Running> {
    let image = w.busybox().await?;
    w.run(pod::pod(&w.slot, "exec"), &pod::idle("one", &image)).await
}

/// Waits until a command in the container succeeds.
async fn until_true(w: &World, container: &str, script: &str) -> Result<()> {
    wait::until_some(script, PATIENCE, || async {
        let answer = w.cri.exec(container, &["sh", "-c", script], 20).await.ok()?;
        (answer.exit_code == 0).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_apart_and_the_code_is_told() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "printf out; printf err >&2; exit 5";
        let request = exec_request(&running.container, &["sh", "-c", script]);
        let done = Session::exec(&w.cri, request).await?.finish().await?;
        ensure!(done == (b"out".to_vec(), b"err".to_vec(), 5), "{done:?}");
        let request = exec_request(&running.container, &["true"]);
        let done = Session::exec(&w.cri, request).await?.finish().await?;
        ensure!(done == (Vec::new(), Vec::new(), 0), "{done:?}");
        let request = exec_request(&running.container, &["/absent"]);
        let mut session = Session::exec(&w.cri, request).await?;
        let status = String::from_utf8(session.error.read_to_end().await?)?;
        ensure!(
            status.contains("InternalError") && status.contains("/absent"),
            "{status}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_clients_get_words() {
    world::test(async |w| {
        let running = idle(w).await?;
        for (offered, chosen) in [
            (&["v2.channel.k8s.io"][..], Some("v2.channel.k8s.io")),
            (&[], None),
        ] {
            for (script, said) in [("exit 7", "exit code 7"), ("exit 0", "")] {
                let request = exec_request(&running.container, &["sh", "-c", script]);
                let url = remote::exec_url(&w.cri, request).await?;
                let spdy = Spdy::connect(&url, offered).await?;
                ensure!(spdy.protocol.as_deref() == chosen, "{:?}", spdy.protocol);
                let mut session = Session::open(
                    spdy,
                    Kind {
                        stdin: true,
                        tty: false,
                    },
                )
                .await?;
                let text = String::from_utf8(session.error.read_to_end().await?)?;
                ensure!(
                    text.ends_with(said) && text.is_empty() == said.is_empty(),
                    "{text:?}"
                );
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_megabytes_each_way() {
    world::test(async |w| {
        let running = idle(w).await?;
        let content: Vec<u8> = (0..5_u32 << 20).map(|n| (n % 251) as u8).collect();
        let mut session = Session::exec(&w.cri, exec_request(&running.container, &["cat"])).await?;
        let mut stdin = session.stdin.take().context("stdin")?;
        let sent = content.clone();
        let sender = tokio::spawn(async move {
            stdin.write(&sent).await?;
            stdin.finish().await?;
            anyhow::Ok(stdin)
        });
        let (stdout, stderr, code) = session.finish().await?;
        ensure!(
            stdout == content && stderr.is_empty() && code == 0,
            "{} bytes, {code}",
            stdout.len()
        );
        sender.await??;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_nobody_reads_holds_up_neither_the_process_nor_the_client() {
    world::test(async |w| {
        let running = idle(w).await?;
        let mut session = Session::exec(&w.cri, exec_request(&running.container, &["sleep", "1"])).await?;
        let mut stdin = session.stdin.take().context("stdin")?;
        // More than fits into all buffers on the way. The server closes when the process is done.
        let sender = tokio::spawn(async move { stdin.write(&vec![0; 64 << 20]).await.map(|()| stdin) });
        let (_, _, code) = session.finish().await?;
        ensure!(code == 0, "{code}");
        sender.abort();
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_size_that_the_client_tells() {
    world::test(async |w| {
        let running = idle(w).await?;
        let request = on_terminal(exec_request(&running.container, &["sh"]));
        let mut session = Session::exec(&w.cri, request).await?;
        session.resize(101, 37).await?;
        // Sizes travel on a stream of their own, so the shell asks until it is there.
        session
            .stdin()?
            .write(b"until stty size | grep '37 101'; do :; done\n")
            .await?;
        session.stdout()?.read_until("\r\n37 101\r\n").await?;
        session
            .stdin()?
            .write(b"trap 'echo w''inch; stty size' WINCH; tty; echo re''ady\n")
            .await?;
        let said = session.stdout()?.read_until("ready").await?;
        ensure!(said.contains("/dev/pts/"), "{said:?}");
        session.resize(80, 24).await?;
        // The shell looks at its signals when a command ends.
        session
            .stdin()?
            .write(b"until stty size | grep -q '24 80'; do :; done; echo do''ne\n")
            .await?;
        session.stdout()?.read_until("done").await?;
        session.stdin()?.write(b"exit 9\n").await?;
        let (_, _, code) = session.finish().await?;
        ensure!(code == 9, "{code}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_whose_client_leaves_is_hung_up() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "trap 'touch /tmp/hup; exit' HUP; echo re''ady; sleep 4321 & wait";
        let request = on_terminal(exec_request(&running.container, &["sh", "-c", script]));
        let mut session = Session::exec(&w.cri, request).await?;
        session.stdout()?.read_until("ready").await?;
        session.spdy.vanish().await?;
        until_true(w, &running.container, "test -e /tmp/hup").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_a_terminal_outlives_its_client() {
    world::test(async |w| {
        let running = idle(w).await?;
        // More than a pipe holds: somebody has to read on.
        let script = "echo ready; cat >/tmp/rest; seq 1 100000; touch /tmp/done";
        let request = exec_request(&running.container, &["sh", "-c", script]);
        let mut session = Session::exec(&w.cri, request).await?;
        session.stdout()?.read_until("ready").await?;
        session.spdy.vanish().await?;
        until_true(w, &running.container, "test -e /tmp/done").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_cost_little_and_stop_nothing() {
    world::test(async |w| {
        let running = idle(w).await?;
        let warm_up = exec_request(&running.container, &["true"]);
        Session::exec(&w.cri, warm_up).await?.finish().await?;
        let before = host::memory(w.server.pid()?)?.0;
        let mut sessions = Vec::new();
        for _ in 0..16 {
            let url = remote::exec_url(&w.cri, exec_request(&running.container, &["yes"])).await?;
            // Never looked at again.
            sessions.push(Ws::connect(&url, "v4.channel.k8s.io").await?);
        }
        // Each gets what fits into its socket, and no more: the processes stand still then.
        let mut quiet = 0;
        wait::until("the processes to stand still", PATIENCE, || {
            quiet = if sleeping(w, "yes") == 16 { quiet + 1 } else { 0 };
            quiet == 20
        })?;
        let grown = host::memory(w.server.pid()?)?.0.saturating_sub(before);
        ensure!(grown < 16 << 10, "{grown} KiB for 16 sessions");
        w.exec(&running.container, &["true"]).await?;
        w.cri.stop(&running.container, 1).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_keeps_the_output_open_does_not_hold_the_session() {
    world::test(async |w| {
        let running = idle(w).await?;
        for request in [
            exec_request(
                &running.container,
                &["sh", "-c", "sleep 600 & echo started; exit 3"],
            ),
            on_terminal(exec_request(
                &running.container,
                &["sh", "-c", "sleep 600 & echo started; exit 3"],
            )),
        ] {
            let (stdout, _, code) = Session::exec(&w.cri, request).await?.finish().await?;
            ensure!(stdout.starts_with(b"started") && code == 3, "{stdout:?} {code}");
        }
        Ok(())
    })
    .await;
}

/// How many processes of the pod with this command line wait for something.
fn sleeping(w: &World, command: &str) -> usize {
    let waits = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        host::cmdline(*pid) == command && stat.contains(") S ")
    };
    host::pids_in_cgroup(&w.slot.cgroup())
        .iter()
        .filter(|pid| waits(pid))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_of_all_kinds() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "printf out; printf err >&2; exit 4";
        for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"] {
            let request = exec_request(&running.container, &["sh", "-c", script]);
            let mut ws = Ws::connect(&remote::exec_url(&w.cri, request).await?, protocol).await?;
            ensure!(ws.protocol.as_deref() == Some(protocol), "{:?}", ws.protocol);
            let first = ws.read().await?;
            ensure!(
                first == Some((1, Vec::new())),
                "an empty message says that it stands: {first:?}"
            );
            let all = ws.read_to_end().await?;
            ensure!(all[&1] == b"out" && all[&2] == b"err", "{all:?}");
            match protocol {
                "channel.k8s.io" => ensure!(all[&3].ends_with(b"exit code 4"), "{all:?}"),
                _ => ensure!(remote::exit_code(&all[&3])? == 4, "{all:?}"),
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_in_base64_and_with_a_terminal() {
    world::test(async |w| {
        let running = idle(w).await?;
        let request = on_terminal(exec_request(&running.container, &["sh"]));
        let url = remote::exec_url(&w.cri, request).await?;
        let mut ws = Ws::connect(&url, "v4.base64.channel.k8s.io").await?;
        ensure!(ws.next().await? == Some(Message::text("1")));
        // {"Width":91,"Height":31}, then: until stty size | grep '31 91'; do :; done; exit 6
        ws.send(Message::text("4eyJXaWR0aCI6OTEsIkhlaWdodCI6MzF9"))
            .await?;
        ws.send(Message::text(
            "0dW50aWwgc3R0eSBzaXplIHwgZ3JlcCAnMzEgOTEnOyBkbyA6OyBkb25lOyBleGl0IDYK",
        ))
        .await?;
        let mut last = String::new();
        while let Some(message) = ws.next().await? {
            last = message.into_text()?.to_string();
        }
        // {"metadata":{},"status":"Failure", … : the error channel comes last.
        ensure!(last.starts_with('3'), "{last}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifth_version_tells_the_end_of_input() {
    world::test(async |w| {
        let running = idle(w).await?;
        let request = exec_request(&running.container, &["sh", "-c", "wc -c; exit 2"]);
        let mut ws = Ws::connect(&remote::exec_url(&w.cri, request).await?, "v5.channel.k8s.io").await?;
        ws.write(0, &vec![b'x'; 200_000]).await?;
        ws.send(Message::binary(vec![255, 0])).await?;
        let all = ws.read_to_end().await?;
        ensure!(all[&1].starts_with(b"200000"), "{all:?}");
        ensure!(remote::exit_code(&all[&3])? == 2);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_can_not_be_are_refused() {
    world::test(async |w| {
        let running = idle(w).await?;
        let good = || exec_request(&running.container, &["true"]);
        let refused = async |request, code: Code| -> Result<()> {
            let error = remote::exec_url(&w.cri, request).await.expect_err("refused");
            ensure!(error.code() == code, "{error:?}");
            Ok(())
        };
        let mut request = good();
        request.tty = true;
        refused(request, Code::InvalidArgument).await?;
        let mut request = good();
        (request.stdin, request.stdout, request.stderr) = (false, false, false);
        refused(request, Code::InvalidArgument).await?;
        let mut request = good();
        request.cmd.clear();
        refused(request, Code::InvalidArgument).await?;
        refused(exec_request("", &["true"]), Code::InvalidArgument).await?;
        refused(exec_request(&"f".repeat(64), &["true"]), Code::NotFound).await?;
        // What ends after the URL was issued is told on the error stream.
        let url = remote::exec_url(&w.cri, good()).await?;
        w.cri.stop(&running.container, 0).await?;
        refused(good(), Code::FailedPrecondition).await?;
        let spdy = Spdy::connect(&url, &[remote::V4]).await?;
        let mut session = Session::open(
            spdy,
            Kind {
                stdin: true,
                tty: false,
            },
        )
        .await?;
        let status = String::from_utf8(session.error.read_to_end().await?)?;
        ensure!(status.contains("must be running"), "{status}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_were_not_asked_for_are_reset() {
    world::test(async |w| {
        let running = idle(w).await?;
        let mut request = exec_request(&running.container, &["cat"]);
        request.stdin = false;
        let url = remote::exec_url(&w.cri, request).await?;
        let mut spdy = Spdy::connect(&url, &[remote::V4]).await?;
        for name in ["stdin", "resize", "nonsense"] {
            let refused = spdy.open(&[("streamtype", name)]).await;
            ensure!(
                refused.is_err_and(|e| e.to_string().contains(&format!("{:?}", Event::Reset))),
                "{name}"
            );
        }
        let done = Session::open(
            spdy,
            Kind {
                stdin: false,
                tty: false,
            },
        )
        .await?
        .finish()
        .await?;
        ensure!(done.2 == 0, "without stdin, cat ends at once: {done:?}");
        Ok(())
    })
    .await;
}
