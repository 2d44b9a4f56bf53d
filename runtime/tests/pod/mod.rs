//! What the monitor's privileged tests share: a pod with a real monitor and real containers, gone when it is dropped.
#![allow(dead_code, unreachable_pub)] // each test program uses a part
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_runtime::client::{Events, MonitorClient, SpawnOptions};
use pintle_runtime::protocol::{
    CreateContainer, Event, ExecRequest, Exit, KillScope, LogTarget, NamespaceKind, SandboxSetup,
};
use pintle_runtime::rootfs::BlankMounts;
use pintle_runtime::{cgroup, sandbox};

use crate::support::Bundle;

/// A pod's folder, its monitor and its bundles.
pub struct Pod {
    pub dir: tempfile::TempDir,
    pub client: MonitorClient,
    pub events: Events,
    pub bundles: Vec<Bundle>,
}

impl Pod {
    /// A monitor and a sandbox with namespaces of its own.
    pub async fn new() -> Self {
        Self::with(SandboxSetup {
            namespaces: vec![NamespaceKind::Net, NamespaceKind::Ipc, NamespaceKind::Uts],
            ..SandboxSetup::default()
        })
        .await
    }

    pub async fn with(setup: SandboxSetup) -> Self {
        let dir = tempfile::Builder::new().prefix("pintle-pod-").tempdir().unwrap();
        let (client, events) = MonitorClient::spawn(&options(dir.path().to_owned()))
            .await
            .unwrap();
        let pod = Self {
            dir,
            client,
            events,
            bundles: Vec::new(),
        };
        soon(pod.client.setup_sandbox(setup)).await.unwrap();
        pod
    }

    /// A pod whose monitor somebody else has started.
    pub async fn of(dir: tempfile::TempDir) -> Self {
        let (client, events) = soon(MonitorClient::connect(dir.path())).await.unwrap();
        Self {
            dir,
            client,
            events,
            bundles: Vec::new(),
        }
    }

    pub fn log_path(&self, id: &str) -> PathBuf {
        self.dir.path().join("logs").join(id).join("0.log")
    }

    /// What the log holds, each record as `stdout F content`; all must be whole.
    pub fn log(&self, id: &str) -> Vec<String> {
        records(&fs::read(self.log_path(id)).unwrap())
    }

    pub async fn create(&mut self, id: &str, bundle: Bundle) -> Result<i32, pintle_runtime::Error> {
        let request = request(id, &bundle, self.log_path(id));
        self.bundles.push(bundle);
        soon(self.client.create(request)).await
    }

    /// Makes and starts a container.
    pub async fn run(&mut self, id: &str, bundle: Bundle) -> i32 {
        let pid = self.create(id, bundle).await.unwrap();
        soon(self.client.start(id)).await.unwrap();
        pid
    }

    pub async fn exited(&mut self, id: &str) -> Exit {
        match soon(self.events.next()).await {
            Some(Event::ContainerExited { id: who, exit }) if who == id => exit,
            other => panic!("not the exit of {id}, but {other:?}"),
        }
    }

    pub async fn kill(&self, id: &str, signal: Signal) {
        soon(self.client.kill(id, signal as i32, KillScope::Init))
            .await
            .unwrap();
    }

    /// Shuts down and makes sure that nothing is left.
    pub async fn shut_down(self) {
        soon(self.client.shutdown()).await.unwrap();
        let pid = self.client.pid();
        for _ in 0..1000 {
            if !fs::exists(format!("/proc/{pid}")).unwrap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(
            !fs::exists(format!("/proc/{pid}")).unwrap(),
            "the monitor has ended and was reaped"
        );
        for name in ["monitor.sock", "monitor.pid"] {
            assert!(!self.dir.path().join(name).exists(), "{name} is left");
        }
        sandbox::unpin(self.dir.path()).unwrap();
        for bundle in &self.bundles {
            bundle.assert_nothing_left();
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let comm = fs::read_to_string(format!("/proc/{}/comm", self.client.pid())).unwrap_or_default();
        if comm.trim() == "pintle-monitor" {
            let _ = kill(Pid::from_raw(self.client.pid()), Signal::SIGKILL);
        }
        for bundle in &self.bundles {
            let _ = cgroup::remove(&bundle.cgroup);
        }
        let _ = sandbox::unpin(self.dir.path());
    }
}

pub fn options(dir: PathBuf) -> SpawnOptions {
    SpawnOptions {
        program: PathBuf::from(env!("CARGO_BIN_EXE_pintle-monitor")).into(),
        blank: BlankMounts::make().unwrap(),
        dir,
        id: "pod1".to_owned(),
    }
}

pub fn request(id: &str, bundle: &Bundle, log: PathBuf) -> CreateContainer {
    bundle.options(); // writes config.json
    CreateContainer {
        id: id.to_owned(),
        bundle: bundle.dir.path().to_owned(),
        log: Some(LogTarget::new(log)),
        ..CreateContainer::default()
    }
}

/// A shell script as an exec.
pub fn exec_request(container: &str, exec_id: &str, args: &[&str]) -> ExecRequest {
    let process = serde_json::json!({
        "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "env": ["PATH=/bin"],
    });
    ExecRequest {
        container: container.to_owned(),
        exec_id: exec_id.to_owned(),
        process: serde_json::from_value(process).unwrap(),
        seccomp_filter: None,
    }
}

pub fn null() -> OwnedFd {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

pub fn records(log: &[u8]) -> Vec<String> {
    assert!(log.is_empty() || log.ends_with(b"\n"), "the last record is whole");
    let text = String::from_utf8_lossy(log);
    let record = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == 30 && time.ends_with('Z'), "{line:?}");
        rest.to_owned()
    };
    text.lines().map(record).collect()
}

/// Whether a line such as `SigIgn:\t0000000000000000` names no signal. Two that belong to the C library (32 and 33)
/// don't count: it lets nobody change them, so that they come from whoever started the tests.
pub fn has_no_signals(line: &str) -> bool {
    u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap() & !(0b11 << 31) == 0
}

/// Within a bound, so that what never comes fails the test instead of hanging it.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it never came")
}

/// Pids of a cgroup, read as the kernel tells them.
pub fn processes(bundle: &Bundle) -> Vec<i32> {
    let handle = cgroup::Handle::new(&bundle.cgroup).unwrap();
    handle.processes().unwrap().into_iter().map(Pid::as_raw).collect()
}
