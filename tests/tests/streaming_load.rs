//! Many sessions at once, and much data in both directions at once.

use anyhow::{Context, Result, ensure};
use pintle_tests::pod;
use pintle_tests::stream::remote::{self, Session, exec_request};
use pintle_tests::stream::ws::Ws;
use pintle_tests::world::{self, Running, World};
use tokio::task::JoinSet;

/// As many as a busy node's operators and probes may have open.
const SESSIONS: usize = 100;

async fn idle(w: &World) -> Result<Running> {
    let image = w.busybox().await?;
    w.run(pod::pod(&w.slot, "load"), &pod::idle("one", &image)).await
}

/// Bytes that don't repeat in step with any buffer.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sessions_at_once_do_not_mix() {
    world::test(async |w| {
        let running = idle(w).await?;
        let mut opening = JoinSet::new();
        for number in 0..SESSIONS {
            let (cri, request) = (w.cri.clone(), exec_request(&running.container, &["cat"]));
            opening.spawn(async move { anyhow::Ok((number, Session::exec(&cri, request).await?)) });
        }
        let mut sessions = Vec::new();
        while let Some(opened) = opening.join_next().await {
            sessions.push(opened??);
        }
        // All of them are there at once, each with its own word.
        for (number, session) in &mut sessions {
            session.stdin()?.write(format!("{number};").as_bytes()).await?;
        }
        for (number, session) in &mut sessions {
            let said = session.stdout()?.read_until(";").await?;
            ensure!(said == format!("{number};"), "session {number} was told {said}");
        }
        for (number, mut session) in sessions {
            session.stdin()?.finish().await?;
            let (stdout, stderr, code) = session.finish().await?;
            ensure!(
                stdout.is_empty() && stderr.is_empty() && code == 0,
                "session {number}: {code}"
            );
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_sessions_with_much_data_both_ways() {
    world::test(async |w| {
        let running = idle(w).await?;
        let mut sessions = JoinSet::new();
        for number in 0..8 {
            let (cri, request) = (w.cri.clone(), exec_request(&running.container, &["cat"]));
            sessions.spawn(async move {
                let content = content((3 << 20) + number);
                let mut session = Session::exec(&cri, request).await?;
                let mut stdin = session.stdin.take().context("stdin")?;
                let sent = content.clone();
                let sender = tokio::spawn(async move {
                    stdin.write(&sent).await?;
                    stdin.finish().await?;
                    anyhow::Ok(stdin)
                });
                let (stdout, _, code) = session.finish().await?;
                ensure!(stdout == content && code == 0, "{} bytes, {code}", stdout.len());
                sender.await??;
                Ok(())
            });
        }
        while let Some(done) = sessions.join_next().await {
            done??;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_by_a_websocket() {
    world::test(async |w| {
        let running = idle(w).await?;
        let script = "i=0; while [ $i -lt 100000 ]; do echo line $i of many; i=$((i+1)); done; exit 3";
        let request = exec_request(&running.container, &["sh", "-c", script]);
        let mut ws = Ws::connect(&remote::exec_url(&w.cri, request).await?, "v5.channel.k8s.io").await?;
        let all = ws.read_to_end().await?;
        let expected: String = (0..100_000).map(|i| format!("line {i} of many\n")).collect();
        ensure!(all[&1] == expected.as_bytes(), "{} bytes", all[&1].len());
        ensure!(remote::exit_code(&all[&3])? == 3);
        Ok(())
    })
    .await;
}
