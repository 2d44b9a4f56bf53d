//! The streaming server itself: tokens, refusals, TLS, restarts.

use std::fs;

use anyhow::{Context, Result, ensure};
use pintle_tests::pod;
use pintle_tests::server::Setup;
use pintle_tests::stream::http::{self, Answer};
use pintle_tests::stream::remote::{self, Kind, Session, V4, exec_request};
use pintle_tests::stream::spdy::Spdy;
use pintle_tests::world::{self, World};
use tokio_rustls::rustls::pki_types::CertificateDer;

const UPGRADE: &[(&str, &str)] = &[
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", V4),
];

async fn container(w: &World) -> Result<String> {
    let image = w.busybox().await?;
    let running = w
        .run(pod::pod(&w.slot, "server"), &pod::idle("one", &image))
        .await?;
    Ok(running.container)
}

async fn ask(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    http::request(http::connect(url, None).await?, method, url, headers).await
}

async fn url(w: &World, container: &str) -> Result<String> {
    Ok(remote::exec_url(&w.cri, exec_request(container, &["echo", "hi"])).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_good_once() {
    world::test(async |w| {
        let container = container(w).await?;
        let issued = url(w, &container).await?;
        ensure!(issued.starts_with("http://127.0.0.1:"), "{issued}");
        ensure!(ask("POST", &issued, UPGRADE).await?.status == 101);
        ensure!(
            ask("POST", &issued, UPGRADE).await?.status == 404,
            "a second time"
        );
        let issued = url(w, &container).await?;
        let (base, token) = issued.rsplit_once('/').context("a token")?;
        let other = base.replace("/exec", "/attach");
        for wrong in [
            format!("{other}/{token}"),
            format!("{base}/AAAAAAAA"),
            base.to_owned(),
            format!("{base}/"),
        ] {
            ensure!(ask("POST", &wrong, UPGRADE).await?.status == 404, "{wrong}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_of_ours_are_refused() {
    world::test(async |w| {
        let container = container(w).await?;
        ensure!(ask("PUT", &url(w, &container).await?, UPGRADE).await?.status == 405);
        ensure!(ask("GET", &url(w, &container).await?, &[]).await?.status == 400);
        let mut headers = UPGRADE.to_vec();
        headers[2].1 = "v99.channel.k8s.io";
        let answer = ask("POST", &url(w, &container).await?, &headers).await?;
        ensure!(answer.status == 403);
        let accepted = answer.header("x-accepted-stream-protocol-versions");
        ensure!(accepted == Some(V4), "{accepted:?}");
        let answer = ask("GET", &url(w, &container).await?, UPGRADE).await?;
        ensure!(answer.status == 101, "GET does as well");
        let long = "x".repeat(100_000);
        let answer = ask("GET", &url(w, &container).await?, &[("X-Long", &long)]).await;
        ensure!(
            answer.map_or(true, |answer| answer.status >= 400),
            "a head without measure"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_urls_may_wait_and_no_more() {
    world::test(async |w| {
        let container = container(w).await?;
        let mut last = String::new();
        for _ in 0..1000 {
            last = url(w, &container).await?;
        }
        let error = remote::exec_url(&w.cri, exec_request(&container, &["true"]))
            .await
            .expect_err("one too many");
        ensure!(error.code() == tonic::Code::ResourceExhausted, "{error:?}");
        ensure!(ask("POST", &last, UPGRADE).await?.status == 101);
        url(w, &container).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_with_the_daemon_and_new_ones_come_with_the_next() {
    world::test(async |w| {
        let container = container(w).await?;
        let mut session = Session::exec(&w.cri, exec_request(&container, &["cat"])).await?;
        w.restart().await?;
        ensure!(session.stdout()?.next().await.is_err(), "the connection is gone");
        let done = Session::exec(&w.cri, exec_request(&container, &["echo", "hi"]))
            .await?
            .finish()
            .await?;
        ensure!(done == (b"hi\n".to_vec(), Vec::new(), 0), "{done:?}");
        Ok(())
    })
    .await;
}

/// Writes a certificate of its own making, and its key.
fn certify(folder: &std::path::Path) -> Result<CertificateDer<'static>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    for (name, text) in [
        ("key.pem", made.signing_key.serialize_pem()),
        ("cert.pem", made.cert.pem()),
    ] {
        let new = folder.join(format!("{name}.new"));
        fs::write(&new, text)?;
        fs::rename(&new, folder.join(name))?;
    }
    Ok(made.cert.der().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_certificate_that_is_renewed() {
    let folder = std::env::temp_dir().join(format!("pintle-test-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let first = certify(&folder).expect("a certificate");
    let mut setup = Setup::from_env().expect("the daemon to test");
    setup.extra_config = format!(
        "[streaming]\ntls_cert = \"{0}/cert.pem\"\ntls_key = \"{0}/key.pem\"",
        folder.display()
    );
    let at = folder.clone();
    world::test_with(setup, async |w| {
        let container = container(w).await?;
        speak(w, &container, first.clone()).await?;
        let second = certify(&at)?;
        speak(w, &container, second).await?;
        ensure!(
            speak(w, &container, first.clone()).await.is_err(),
            "the old one is gone"
        );
        Ok(())
    })
    .await;
    fs::remove_dir_all(&folder).expect("the folder is removed");
}

async fn speak(w: &World, container: &str, root: CertificateDer<'static>) -> Result<()> {
    let url = url(w, container).await?;
    ensure!(url.starts_with("https://"), "{url}");
    let io = http::connect(&url, Some(root)).await?;
    let spdy = Spdy::over(io, &url, &[V4]).await?;
    let done = Session::open(
        spdy,
        Kind {
            stdin: true,
            tty: false,
        },
    )
    .await?
    .finish()
    .await?;
    ensure!(done == (b"hi\n".to_vec(), Vec::new(), 0), "{done:?}");
    Ok(())
}
