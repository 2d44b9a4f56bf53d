//! Every RPC against random requests: messages that are well-formed and wrong, and bytes that are no message.
//!
//! Whatever comes, the daemon answers, in time; it panics nowhere, and what
//! a request began is gone when the pods are. `PINTLE_TEST_SEED` has the numbers of a failed run again, or other ones.

mod base;
mod configs;
mod methods;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_cri::v1::{NetworkConfig, RuntimeConfig, UpdateRuntimeConfigRequest, VersionRequest};
use pintle_tests::mutate::{Random, message, mutate};
use pintle_tests::newer;
use pintle_tests::server::{Kind, Setup};
use pintle_tests::wait;
use pintle_tests::world::{self, World};
use tonic::{Code, Status};

use base::{Base, texts};
use methods::{METHODS, Method};

/// No call may take longer. They take milliseconds; machines under load are slow.
const LIMIT: Duration = Duration::from_secs(60);

fn seed() -> Result<u64> {
    match std::env::var("PINTLE_TEST_SEED") {
        Ok(text) => text.parse().with_context(|| format!("PINTLE_TEST_SEED={text}")),
        Err(_) => Ok(20_260_801),
    }
}

/// Sends a request; what the daemon answered, as far as it began to.
async fn call(w: &World, method: &Method, request: Vec<u8>) -> Result<Result<(), Status>> {
    let path = format!("runtime.v1.{}", method.path);
    let answer = async {
        if method.is_stream {
            newer::taken(&w.cri.channel, &path, request).await
        } else {
            newer::raw(&w.cri.channel, &path, request).await
        }
    };
    tokio::time::timeout(wait::scaled(LIMIT), answer)
        .await
        .context("no answer")
}

/// Fails for the answer of a task that panicked, and for one that came from no daemon.
fn check(answer: Result<(), Status>) -> Result<()> {
    let Err(status) = answer else {
        return Ok(());
    };
    // The gRPC library calls bytes that are no message internal, and so is what the kernel refuses for reasons of its own,
    // such as a limit under which nothing can run. A task that panicked says something else.
    let is_panic = status.code() == Code::Internal && status.message().contains("internal error while");
    let is_gone = matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::DataLoss
    );
    if is_panic || is_gone {
        bail!("{status:?}");
    }
    Ok(())
}

async fn still_well(w: &World) -> Result<()> {
    let version = w.cri.runtime.clone().version(VersionRequest::default()).await;
    version.context("Version")?;
    let log = w.server.log_tail(usize::MAX);
    ensure!(!log.contains("panicked"), "the daemon panicked");
    Ok(())
}

/// The default daemon, but that names without a registry lead to one that isn't there rather than out of the machine.
fn setup(hosts: &Path) -> Result<Setup> {
    let mut setup = Setup::from_env()?;
    fs::create_dir_all(hosts.join("docker.io"))?;
    fs::write(
        hosts.join("docker.io/hosts.toml"),
        "server = \"http://127.0.0.1:1\"\n",
    )?;
    setup.extra_config = format!("[images]\ncerts_dir = \"{}\"", hosts.display());
    Ok(setup)
}

/// A folder, removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn play(name: &str, cases: usize, make: impl Fn(&Method, &Base, &mut Random) -> Vec<u8>) {
    let hosts = std::env::temp_dir().join(format!("pintle-test-{name}-{}", std::process::id()));
    let hosts = Folder(hosts);
    let setup = setup(&hosts.0).expect("the daemon to test");
    world::test_with(setup, async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let image = w.busybox().await?;
        w.warm_up(&image).await?;
        // What the daemon then remembers is the node's.
        let network_config = Some(NetworkConfig {
            pod_cidr: w.slot.subnet(),
        });
        let runtime_config = Some(RuntimeConfig { network_config });
        let request = UpdateRuntimeConfigRequest { runtime_config };
        w.cri.runtime.clone().update_runtime_config(request).await?;
        let before = w.count()?;
        let mut base = Base::default();
        for method in METHODS {
            let mut random = Random::new(seed()?);
            for case in 0..cases * method.weight {
                base.restore(w).await.context("what requests begin with")?;
                let request = make(method, &base, &mut random);
                let context = || format!("seed {:?}, {}, case {case}: {request:x?}", seed(), method.path);
                let answer = call(w, method, request.clone()).await.with_context(context)?;
                check(answer).with_context(context)?;
            }
            still_well(w)
                .await
                .with_context(|| format!("after {}", method.path))?;
        }
        base.clear(w).await?;
        ensure!(w.cri.containers().await?.is_empty());
        w.assert_nothing_left(&before).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_requests_are_met() {
    world::test(async |w| {
        if w.server.kind() != Kind::Pintle {
            return Ok(());
        }
        let mut base = Base::default();
        for method in METHODS {
            base.restore(w).await?;
            let request = (method.request)(&base);
            let answer = call(w, method, request).await.context(method.path)?;
            let missing = answer
                .as_ref()
                .is_err_and(|e| matches!(e.code(), Code::Unimplemented | Code::InvalidArgument));
            ensure!(
                answer.is_ok() || (method.may_be_missing && missing),
                "{}: {answer:?}",
                method.path
            );
        }
        base.clear(w).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_wrong_harm_nothing() {
    play("messages", 10, |method, base, random| {
        let request = (method.request)(base);
        mutate(&request, &texts(base), random).unwrap_or_default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_harm_nothing() {
    play("bytes", 6, |method, base, random| {
        if random.below(3) == 0 {
            return random.bytes(300);
        }
        random.damaged(&(method.request)(base))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_the_greatest_size_and_one_beyond_are_answered() {
    world::test(async |w| {
        let method = METHODS.iter().find(|m| m.path.ends_with("/ContainerStatus"));
        let method = method.context("a method")?;
        for (length, code) in [(15 << 20, Code::NotFound), (17 << 20, Code::OutOfRange)] {
            let request = message(&[(1, &"x".repeat(length))]);
            let answer = call(w, method, request).await?;
            let found = answer.err().map(|status| status.code());
            ensure!(found == Some(code), "{length} bytes: {found:?}");
        }
        still_well(w).await
    })
    .await;
}
