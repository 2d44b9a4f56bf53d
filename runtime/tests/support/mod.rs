//! What the privileged tests share: a busybox root file system, configurations, containers that clean up after
//! themselves.
#![allow(dead_code)] // each test program uses a part
#![allow(clippy::unwrap_used)] // in tests a failure may panic where it happens

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::wait::{WaitStatus, waitpid};
use pintle_runtime::container::{self, InitStdio, Options, Prepared};
use serde_json::{Value, json};

/// A bundle in a temporary folder: `config.json`, `rootfs` (busybox), and a cgroup of its own.
pub(crate) struct Bundle {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) spec: Value,
    pub(crate) cgroup: String,
}

impl Bundle {
    /// Runs `script` in a shell, in new namespaces of every kind but user and time.
    pub(crate) fn new(script: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make containers and need root"
        );
        let dir = tempfile::Builder::new().prefix("pintle-test-").tempdir().unwrap();
        make_rootfs(&dir.path().join("rootfs"));
        let name = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let cgroup = format!("/pintle-test/{name}");
        let spec = spec(script, &cgroup);
        Self { dir, spec, cgroup }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    /// Changes a field of the configuration, by JSON pointer; what lies above must be there.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let object = self.spec.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        object.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn add(&mut self, pointer: &str, value: Value) -> &mut Self {
        self.spec
            .pointer_mut(pointer)
            .unwrap()
            .as_array_mut()
            .unwrap()
            .push(value);
        self
    }

    pub(crate) fn options(&self) -> Options {
        fs::write(self.path("config.json"), self.spec.to_string()).unwrap();
        Options {
            id: "test".to_owned(),
            bundle: self.dir.path().to_owned(),
            strict_propagation: true,
            ..Options::default()
        }
    }

    pub(crate) fn prepare(&self) -> Result<Running, pintle_runtime::Error> {
        self.prepare_with(&self.options())
    }

    pub(crate) fn prepare_with(&self, options: &Options) -> Result<Running, pintle_runtime::Error> {
        let (read, write) = nix::unistd::pipe().unwrap();
        let stdio = InitStdio {
            stdin: File::open("/dev/null").unwrap().into(),
            stdout: write.try_clone().unwrap(),
            stderr: write,
        };
        let prepared = container::prepare_with(options, stdio)?;
        Ok(Running {
            prepared,
            output: read,
            ended: false,
        })
    }

    /// Runs to the end; exit code and output.
    pub(crate) fn run(&self) -> (i32, String) {
        let mut running = self.prepare().unwrap();
        running.start().unwrap();
        running.finish()
    }

    /// The output of a run that must succeed.
    pub(crate) fn output(&self) -> String {
        let (code, output) = self.run();
        assert_eq!(code, 0, "{output}");
        output
    }

    /// The error of a container that can't be made.
    pub(crate) fn error(&self) -> String {
        match self.prepare() {
            Ok(_) => panic!("this must not work"),
            Err(e) => {
                self.assert_nothing_left();
                e.to_string()
            }
        }
    }

    pub(crate) fn assert_nothing_left(&self) {
        let path = self.cgroup.trim_start_matches('/');
        for hierarchy in pintle_runtime::cgroup::hierarchies() {
            assert!(
                !hierarchy.mount.join(path).exists(),
                "{} is left",
                hierarchy.mount.join(path).display()
            );
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(self.dir.path().to_str().unwrap()),
            "mounts are left:\n{mounts}"
        );
    }
}

/// Also after a failed test nothing stays behind.
impl Drop for Bundle {
    fn drop(&mut self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = self.dir.path().to_str().unwrap_or("/nowhere");
        for path in table
            .lines()
            .rev()
            .filter_map(|l| l.split(' ').nth(4))
            .filter(|p| p.starts_with(below))
        {
            let _ = pintle_runtime::sandbox::unmount(Path::new(path));
        }
        for group in [self.cgroup.clone(), format!("{}-init", self.cgroup)] {
            let _ = pintle_runtime::cgroup::remove(&group);
        }
    }
}

/// A container that is killed and removed when dropped.
pub(crate) struct Running {
    pub(crate) prepared: Prepared,
    pub(crate) output: OwnedFd,
    ended: bool,
}

impl Running {
    pub(crate) fn start(&mut self) -> Result<(), pintle_runtime::Error> {
        container::start(&mut self.prepared)
    }

    pub(crate) fn wait(&mut self) -> i32 {
        self.ended = true;
        exit_code(waitpid(self.prepared.pid, None).unwrap())
    }

    /// Waits for the end; exit code and output.
    pub(crate) fn finish(mut self) -> (i32, String) {
        let mut output = String::new();
        File::from(self.output.try_clone().unwrap())
            .read_to_string(&mut output)
            .unwrap();
        (self.wait(), output)
    }

    /// Reads one line of output.
    pub(crate) fn line(&self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while nix::unistd::read(&self.output, &mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = nix::sys::signal::kill(self.prepared.pid, nix::sys::signal::Signal::SIGKILL);
            // a test may have failed while it stood still, and then it can't end
            let _ = self.prepared.cgroup.freeze(false);
            let _ = waitpid(self.prepared.pid, None);
        }
        let removed = self.prepared.cgroup.remove();
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

pub(crate) fn exit_code(status: WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

/// Debian's busybox-static with all its applets, and the files that a container expects.
pub(crate) fn make_rootfs(root: &Path) {
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("needs Debian's busybox-static");
    let list = std::process::Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .unwrap()
        .stdout;
    for applet in String::from_utf8(list)
        .unwrap()
        .lines()
        .filter(|a| *a != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
}

fn spec(script: &str, cgroup: &str) -> Value {
    let caps = json!([
        "CAP_CHOWN",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_AUDIT_WRITE"
    ]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/uptime", "/proc/kcore", "/proc/keys", "/proc/acpi", "/proc/scsi", "/sys/firmware", "/no/such/path"],
            "readonlyPaths": ["/proc/sys", "/proc/irq", "/proc/bus"],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]}
        }
    })
}
