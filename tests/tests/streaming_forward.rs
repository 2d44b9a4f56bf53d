//! Port-forward: many connections, half-close, resets, IPv6, the host's network, and the old WebSocket protocol.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use pintle_tests::stream::forward::{self, Pair, inside};
use pintle_tests::stream::spdy::{Event, Spdy};
use pintle_tests::stream::ws::Ws;
use pintle_tests::world::{self, Running, World};
use pintle_tests::{host, pod};
use tonic::Code;

async fn idle(w: &World) -> Result<Running> {
    let image = w.busybox().await?;
    w.run(pod::pod(&w.slot, "forward"), &pod::idle("one", &image))
        .await
}

/// Serves connections to an address inside the pod, each on a thread; the port.
fn serve(w: &World, address: &'static str, work: fn(TcpStream) -> io::Result<()>) -> Result<u16> {
    let pids = host::pids_in_cgroup(&w.slot.cgroup());
    let pid = *pids.first().context("a process in the pod")?;
    let listener = inside(pid, move || TcpListener::bind(address))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        // Ends with the test's process.
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || work(stream));
        }
    });
    Ok(port)
}

/// Sends everything back once all of it has come: that needs half-close in both directions.
fn echo_at_the_end(mut stream: TcpStream) -> io::Result<()> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    stream.write_all(&all)
}

/// Sends, closes its side, and goes on reading until the client's end.
fn end_first(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"that is all")?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}

/// Reads a little, and breaks off: unread input makes the kernel reset the connection.
fn break_off(mut stream: TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0; 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_at_once_do_not_mix() {
    world::test(async |w| {
        let running = idle(w).await?;
        let port = serve(w, "127.0.0.1:0", echo_at_the_end)?;
        let mut spdy = forward::connect(&w.cri, &running.pod).await?;
        let mut pairs = Vec::new();
        for n in 0..10_u8 {
            let pair = Pair::open(&mut spdy, port, &n.to_string()).await?;
            pairs.push((n, pair));
        }
        let mut tasks = tokio::task::JoinSet::new();
        for (n, mut pair) in pairs {
            tasks.spawn(async move {
                let content = vec![n; 300_000];
                anyhow::Ok((
                    pair.exchange(&content).await? == content,
                    pair.error.read_to_end().await?,
                ))
            });
        }
        while let Some(done) = tasks.join_next().await {
            let (same, said) = done??;
            ensure!(same && said.is_empty(), "{said:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_may_end_first() {
    world::test(async |w| {
        let running = idle(w).await?;
        let port = serve(w, "127.0.0.1:0", end_first)?;
        let mut spdy = forward::connect(&w.cri, &running.pod).await?;
        let mut pair = Pair::open(&mut spdy, port, "0").await?;
        ensure!(pair.data.read_to_end().await? == b"that is all");
        // The other direction is still open: much more than all buffers hold goes through.
        pair.data.write(&vec![0; 8 << 20]).await?;
        pair.data.finish().await?;
        ensure!(pair.error.read_to_end().await?.is_empty());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_listens_on_ipv6_alone() {
    world::test(async |w| {
        let running = idle(w).await?;
        let port = serve(w, "[::1]:0", echo_at_the_end)?;
        let mut spdy = forward::connect(&w.cri, &running.pod).await?;
        let mut pair = Pair::open(&mut spdy, port, "0").await?;
        ensure!(pair.exchange(b"six").await? == b"six");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_one_connection_is_not_that_of_others() {
    world::test(async |w| {
        let running = idle(w).await?;
        let (good, bad) = (
            serve(w, "127.0.0.1:0", echo_at_the_end)?,
            serve(w, "127.0.0.1:0", break_off)?,
        );
        let mut spdy = forward::connect(&w.cri, &running.pod).await?;
        let mut bystander = Pair::open(&mut spdy, good, "bystander").await?;
        // Reset by the pod: the data stream is reset, and nothing is said, which would make kubectl give up.
        let mut broken = Pair::open(&mut spdy, bad, "broken").await?;
        broken.data.write(&vec![0; 100_000]).await?;
        while broken.data.next().await? != Event::Reset {}
        ensure!(broken.error.read_to_end().await?.is_empty());
        // Nobody listens: said on the error stream.
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut refused = Pair::open(&mut spdy, free, "refused").await?;
        let said = String::from_utf8(refused.error.read_to_end().await?)?;
        ensure!(
            said.contains("refused") && said.contains(&free.to_string()),
            "{said}"
        );
        // Given up by the client.
        let mut given_up = Pair::open(&mut spdy, good, "given up").await?;
        given_up.data.write(b"x").await?;
        given_up.data.reset().await?;
        ensure!(given_up.error.read_to_end().await?.is_empty());
        ensure!(bystander.exchange(b"still here").await? == b"still here");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_make_no_pair_are_reset() {
    world::test(async |w| {
        let running = idle(w).await?;
        let port = serve(w, "127.0.0.1:0", echo_at_the_end)?.to_string();
        let mut spdy = forward::connect(&w.cri, &running.pod).await?;
        for headers in [
            &[("streamtype", "data"), ("port", "0"), ("requestid", "1")][..],
            &[("streamtype", "data"), ("port", "65536"), ("requestid", "1")],
            &[("streamtype", "data"), ("port", "x"), ("requestid", "1")],
            &[("streamtype", "data"), ("requestid", "1")],
            &[("streamtype", "stdin"), ("port", "80"), ("requestid", "1")],
            &[],
        ] {
            ensure!(spdy.open(headers).await.is_err(), "{headers:?}");
        }
        // Old clients give no id: the error stream comes first, the data stream next.
        let mut error = spdy.open(&[("streamtype", "error"), ("port", &port)]).await?;
        let data = spdy.open(&[("streamtype", "data"), ("port", &port)]).await?;
        error.finish().await?;
        let mut pair = Pair { data, error };
        ensure!(pair.exchange(b"old").await? == b"old");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_the_hosts_network_is_the_host() {
    world::test(async |w| {
        let pod = w
            .cri
            .run_pod(&pod::on_host_network(pod::pod(&w.slot, "host")))
            .await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || listener.incoming().flatten().try_for_each(echo_at_the_end));
        let mut spdy = forward::connect(&w.cri, &pod).await?;
        let mut pair = Pair::open(&mut spdy, port, "0").await?;
        ensure!(pair.exchange(b"host").await? == b"host");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spdy_in_a_websocket() {
    world::test(async |w| {
        let running = idle(w).await?;
        let port = serve(w, "127.0.0.1:0", echo_at_the_end)?;
        let url = forward::url(&w.cri, &running.pod, &[]).await?;
        let ws = Ws::connect(&url, "SPDY/3.1+portforward.k8s.io").await?;
        let mut spdy = Spdy::start(Box::new(ws.tunnel()), None);
        for n in 0..3_u8 {
            let mut pair = Pair::open(&mut spdy, port, &n.to_string()).await?;
            let content = vec![n; 500_000];
            ensure!(pair.exchange(&content).await? == content);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_websocket_protocol_has_two_channels_a_port() {
    world::test(async |w| {
        let running = idle(w).await?;
        let port = serve(w, "127.0.0.1:0", end_first)?;
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = forward::url(&w.cri, &running.pod, &[port.into(), free.into()]).await?;
        let mut ws = Ws::connect(&url, "v4.channel.k8s.io").await?;
        let mut all = BTreeMap::<u8, Vec<u8>>::new();
        let is_whole = |all: &BTreeMap<u8, Vec<u8>>| {
            let served = all.get(&0).is_some_and(|data| data.ends_with(b"that is all"));
            let refused = all.get(&3).is_some_and(|error| error.len() > 2);
            served && refused
        };
        while !is_whole(&all) {
            let (channel, content) = ws.read().await?.context("the end of the connection")?;
            all.entry(channel).or_default().extend(content);
        }
        for (channel, port) in [(0, port), (1, port), (2, free), (3, free)] {
            ensure!(
                all[&channel].starts_with(&port.to_le_bytes()),
                "{channel}: {:?}",
                all[&channel]
            );
        }
        ensure!(String::from_utf8_lossy(&all[&3]).contains("refused"), "{all:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ready_pods_are_forwarded_to() {
    world::test(async |w| {
        let running = idle(w).await?;
        let refused = async |pod: &str, ports: &[i32], code: Code| -> Result<()> {
            let error = forward::url(&w.cri, pod, ports).await.expect_err("refused");
            ensure!(error.code() == code, "{error:?}");
            Ok(())
        };
        refused("", &[], Code::InvalidArgument).await?;
        refused(&"f".repeat(64), &[], Code::NotFound).await?;
        refused(&running.pod, &[0], Code::InvalidArgument).await?;
        refused(&running.pod, &[65536], Code::InvalidArgument).await?;
        w.cri.stop_pod(&running.pod).await?;
        refused(&running.pod, &[80], Code::FailedPrecondition).await
    })
    .await;
}
