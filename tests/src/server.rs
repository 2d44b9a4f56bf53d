//! The daemon under test, with root, state, socket and network of its own.
//!
//! Normally that is `pintled` from the folder that `PINTLE_BIN` names. The same tests, and the benchmark, can also
//! be put to Debian's containerd (`PINTLE_TEST_RUNTIME=containerd` or `containerd-crun`), which is how one finds
//! out whether a failing test is wrong or the daemon.

mod config;

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_cri::v1::VersionRequest;

use crate::child::Child;
use crate::cri::Cri;
use crate::slot::Slot;
use crate::wait;

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Pintle,
    /// Debian's containerd, with Debian's runc.
    ContainerdRunc,
    /// Debian's containerd, with Debian's crun.
    ContainerdCrun,
}

impl Kind {
    /// What `PINTLE_TEST_RUNTIME` asks for; ours if it is unset.
    pub fn from_env() -> Result<Kind> {
        match std::env::var("PINTLE_TEST_RUNTIME").as_deref() {
            Err(_) | Ok("" | "pintle") => Ok(Kind::Pintle),
            Ok("containerd") => Ok(Kind::ContainerdRunc),
            Ok("containerd-crun") => Ok(Kind::ContainerdCrun),
            Ok(other) => bail!("PINTLE_TEST_RUNTIME={other}: expected pintle, containerd or containerd-crun"),
        }
    }

    /// Name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pintle => "Pintle",
            Kind::ContainerdRunc => "containerd + runc",
            Kind::ContainerdCrun => "containerd + crun",
        }
    }
}

/// What the daemon's configuration depends on.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which daemon.
    pub kind: Kind,
    /// Network by CNI programs of Debian's, rather than the built-in one.
    pub cni: bool,
    /// The image of a pause process, for daemons that need one.
    pub pause_image: String,
    /// More lines for the end of `pintled`'s configuration.
    pub extra_config: String,
    /// What `pintled` logs: its default, or more.
    pub log_level: &'static str,
}

impl Setup {
    /// The daemon that the environment asks for, with its defaults.
    pub fn from_env() -> Result<Setup> {
        Ok(Setup::new(Kind::from_env()?))
    }

    /// A daemon with its defaults; containerd has no network of its own.
    pub fn new(kind: Kind) -> Setup {
        Setup {
            kind,
            cni: kind != Kind::Pintle,
            pause_image: String::new(),
            extra_config: String::new(),
            log_level: "info,pintle_cri=debug",
        }
    }

    /// As [`Setup::new`], but logging no more than at a user's, for whoever measures.
    pub fn measured(kind: Kind) -> Setup {
        Setup {
            log_level: "info",
            ..Setup::new(kind)
        }
    }
}

/// A daemon: configured, and running or not. Ended when dropped.
pub struct Server {
    setup: Setup,
    command: (OsString, Vec<OsString>),
    socket: PathBuf,
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    /// Writes the configuration for `slot`; starts nothing.
    pub fn prepare(slot: &Slot, setup: Setup) -> Result<Server> {
        let command = config::write(slot, &setup)?;
        let log = slot.root().join("daemon.log");
        Ok(Server {
            setup,
            command,
            socket: config::socket(slot),
            log,
            process: None,
        })
    }

    /// Starts the daemon and answers once it has answered.
    pub async fn start(&mut self) -> Result<Cri> {
        ensure!(self.process.is_none(), "the daemon runs already");
        let program = self.command.0.to_string_lossy().into_owned();
        let mut process = Child::spawn(&program, &self.command.1, &self.log)?;
        let ended = std::cell::Cell::new(false);
        let connected = wait::until("the daemon's socket", wait::PATIENCE, || {
            ended.set(process.try_wait().is_some());
            ended.get() || UnixStream::connect(&self.socket).is_ok()
        });
        if ended.get() || connected.is_err() {
            bail!("{program} did not start:\n{}", process.log_tail(30));
        }
        self.process = Some(process);
        let cri = Cri::connect(&self.socket).await?;
        wait::until_some("the daemon's first answer", wait::PATIENCE, || async {
            cri.runtime.clone().version(VersionRequest::default()).await.ok()
        })
        .await?;
        Ok(cri)
    }

    /// Starts the daemon where it is expected to end by itself, within `limit`; how it ended.
    pub fn run_to_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        Child::spawn(&self.command.0.to_string_lossy(), &self.command.1, &self.log)?.wait(limit)
    }

    /// Which daemon this is.
    pub fn kind(&self) -> Kind {
        self.setup.kind
    }

    /// The CRI socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon's process id while it runs.
    pub fn pid(&self) -> Result<i32> {
        self.process
            .as_ref()
            .map(Child::pid)
            .context("the daemon does not run")
    }

    /// SIGKILL to the daemon alone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and how the daemon ended; it has `grace`.
    pub fn terminate(&mut self, grace: Duration) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("the daemon does not run")?;
        process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = process.wait(grace)?;
        self.process = None;
        Ok(status)
    }

    /// The end of what the daemon has logged, over all its starts.
    pub fn log_tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Asks a running daemon to remove every pod.
    fn remove_all_pods(&self) {
        let socket = self.socket.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                tokio::time::timeout(wait::scaled(Duration::from_secs(20)), async {
                    let cri = Cri::connect(&socket).await?;
                    for pod in cri.pods().await? {
                        let _ = cri.stop_pod(&pod.id).await;
                        let _ = cri.remove_pod(&pod.id).await;
                    }
                    anyhow::Ok(())
                })
                .await?
            })
        };
        // A thread of its own, as a test's runtime may not be blocked on from inside. What fails here is swept.
        let _: std::thread::Result<Result<()>> = std::thread::spawn(work).join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let running = self.process.as_mut().is_some_and(|p| p.try_wait().is_none());
        if running {
            self.remove_all_pods();
        }
        if let Some(process) = self.process.as_mut() {
            process.terminate(Duration::from_secs(10));
        }
    }
}
