//! A backend without a kernel, and a pod around it: the tests play the processes.

mod job;

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use self::job::FakeJob;
use super::backend::{Backend, Ending, Prepared, Started};
use super::event_loop::Monitor;
use crate::checkpoint::Restore;
use crate::container::InitStdio;
use crate::error::{Error, ExecError, Result};
use crate::protocol::{CreateContainer, ExecRequest, LogTarget, SOCKET_NAME, SandboxSetup};

/// What the backend and the test share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    last_pid: i32,
    /// What was asked for, in words.
    pub(crate) calls: Vec<String>,
    stdio: HashMap<String, InitStdio>,
    pids: HashMap<String, i32>,
    exits: VecDeque<(i32, Ending)>,
    /// Writing into one lets what waits there go on: `create c`, `start c`, `exec e`.
    gates: HashMap<String, UnixStream>,
}

/// Ids decide what goes wrong: `bad-create…`, `bad-start…`, `oom…`. Those that begin with `tty` get a terminal; those that
/// begin with `slow-create`, `slow-start` or `slow-exec` wait there for [`Pod::release`].
#[derive(Debug)]
pub(crate) struct Fake {
    shared: Arc<Mutex<Shared>>,
    exits: UnixStream,
    wake: UnixStream,
}

impl Fake {
    fn note(&self, call: String) {
        self.shared.lock().unwrap().calls.push(call);
    }

    fn new_pid(&self, name: &str) -> i32 {
        let mut shared = self.shared.lock().unwrap();
        shared.last_pid += 1;
        let pid = 1_000_000 + shared.last_pid;
        shared.pids.insert(name.to_owned(), pid);
        pid
    }

    fn end(&self, name: &str, ending: Ending) {
        end(&mut self.shared.lock().unwrap(), &self.wake, name, ending);
    }

    /// A gate, which is open unless the name begins so.
    fn gate(&self, name: &str, closed_for: &str, step: &str) -> UnixStream {
        let (gate, mut opener) = UnixStream::pair().unwrap();
        gate.set_nonblocking(true).unwrap();
        if !name.starts_with(closed_for) {
            opener.write_all(b"x").unwrap();
        }
        self.shared
            .lock()
            .unwrap()
            .gates
            .insert(format!("{step} {name}"), opener);
        gate
    }
}

fn end(shared: &mut Shared, mut wake: &UnixStream, name: &str, ending: Ending) {
    let Some(pid) = shared.pids.remove(name) else {
        return;
    };
    shared.stdio.remove(name);
    shared.exits.push_back((pid, ending));
    wake.write_all(b"x").unwrap();
}

/// A terminal of the host, and its master.
fn terminal() -> (InitStdio, Option<OwnedFd>) {
    let pty = openpty(None, None).unwrap();
    let mut settings = tcgetattr(&pty.slave).unwrap();
    // what is sent must come back only if the test writes it
    cfmakeraw(&mut settings);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
    let stdio = InitStdio {
        stdin: pty.slave.try_clone().unwrap(),
        stdout: pty.slave.try_clone().unwrap(),
        stderr: pty.slave,
    };
    (stdio, Some(pty.master))
}

#[derive(Debug)]
pub(crate) struct FakeContainer {
    id: String,
    gate: UnixStream,
}

impl Backend for Fake {
    type Container = FakeContainer;
    type Making = FakeJob<Prepared<FakeContainer>>;
    type Entering = FakeJob<Started>;

    fn setup_sandbox(&mut self, _dir: &Path, setup: &SandboxSetup) -> Result<Option<i32>> {
        self.note("setup".to_owned());
        Ok(setup.shared_pid.then(|| self.new_pid("sandbox")))
    }

    fn prepare(
        &mut self,
        request: &CreateContainer,
        from: Option<&Restore>,
        stdio: InitStdio,
    ) -> Result<FakeJob<Prepared<FakeContainer>>> {
        let id = request.id.clone();
        self.note(match from {
            None => format!("prepare {id}"),
            Some(from) => format!("restore {id} from {}", from.images.display()),
        });
        let (stdio, console) = match id.starts_with("tty") {
            true => terminal(),
            false => (stdio, None),
        };
        let made = match id.starts_with("bad-create") {
            true => Err(Error::invalid("mounts[0].destination", "\"x\" is not absolute")),
            false => Ok(Prepared {
                pid: self.new_pid(&id),
                console,
                container: FakeContainer {
                    gate: self.gate(&id, "slow-start", "start"),
                    id: id.clone(),
                },
            }),
        };
        self.shared.lock().unwrap().stdio.insert(id.clone(), stdio);
        Ok(FakeJob {
            gate: self.gate(&id, "slow-create", "create"),
            made,
            ended: None,
            shared: Arc::clone(&self.shared),
            is_listening: true,
        })
    }

    fn start(&mut self, container: &mut FakeContainer) -> Result<()> {
        self.note(format!("start {}", container.id));
        Ok(())
    }

    fn start_fd<'a>(&self, container: &'a FakeContainer) -> BorrowedFd<'a> {
        container.gate.as_fd()
    }

    fn poll_start(&mut self, container: &mut FakeContainer) -> Option<Result<()>> {
        let _ = (&container.gate).read(&mut [0]).ok()?;
        if container.id.starts_with("bad-start") {
            self.end(&container.id, Ending::Code(1));
            return Some(Err(Error::Exec(ExecError::NotInPath("nope".to_owned()))));
        }
        Some(Ok(()))
    }

    fn exec(
        &mut self,
        container: &FakeContainer,
        request: &ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<FakeJob<Started>> {
        self.note(format!("exec {} in {}", request.exec_id, container.id));
        let [stdin, stdout, stderr] = stdio;
        let given = InitStdio {
            stdin,
            stdout,
            stderr,
        };
        let (stdio, console) = match request.process.terminal() {
            Some(true) => terminal(),
            _ => (given, None),
        };
        let name = &request.exec_id;
        let pid = self.new_pid(name);
        self.shared.lock().unwrap().stdio.insert(name.clone(), stdio);
        Ok(FakeJob {
            gate: self.gate(name, "slow-exec", "exec"),
            made: Ok(Started {
                pid,
                console,
                ended: None,
            }),
            ended: None,
            shared: Arc::clone(&self.shared),
            is_listening: true,
        })
    }

    fn signal(&mut self, FakeContainer { id, .. }: &FakeContainer, signal: i32) -> Result<()> {
        self.note(format!("signal {id} {signal}"));
        self.end(id, Ending::Signal(signal));
        Ok(())
    }

    fn signal_all(&mut self, FakeContainer { id, .. }: &FakeContainer, signal: i32) -> Result<()> {
        self.note(format!("signal-all {id} {signal}"));
        self.end(id, Ending::Signal(signal));
        Ok(())
    }

    fn oom_killed(&mut self, FakeContainer { id, .. }: &FakeContainer, _: Ending) -> bool {
        id.starts_with("oom")
    }

    fn remove(&mut self, FakeContainer { id, .. }: &FakeContainer) -> Result<()> {
        self.note(format!("remove {id}"));
        Ok(())
    }

    fn kill_tree(&mut self, pid: i32) {
        let mut shared = self.shared.lock().unwrap();
        let name = shared
            .pids
            .iter()
            .find(|(_, p)| **p == pid)
            .map(|(name, _)| name.clone())
            .unwrap();
        end(&mut shared, &self.wake, &name, Ending::Signal(9));
    }

    fn exits(&self) -> BorrowedFd<'_> {
        self.exits.as_fd()
    }

    fn reap(&mut self) -> Option<(i32, Ending)> {
        let _ = (&self.exits).read(&mut [0; 64]);
        self.shared.lock().unwrap().exits.pop_front()
    }
}

/// An exit with a code.
pub(crate) fn code(code: i32) -> Ending {
    Ending::Code(code)
}

/// A monitor that runs in a thread.
pub(crate) struct Pod {
    pub(crate) dir: tempfile::TempDir,
    shared: Arc<Mutex<Shared>>,
    wake: UnixStream,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (exits, wake) = UnixStream::pair().unwrap();
        exits.set_nonblocking(true).unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let fake = Fake {
            shared: Arc::clone(&shared),
            exits,
            wake: wake.try_clone().unwrap(),
        };
        let path = dir.path().to_owned();
        let thread = std::thread::spawn(move || Monitor::new(fake, path, listener)?.run());
        Self {
            dir,
            shared,
            wake,
            thread: Some(thread),
        }
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// A container to ask for, whose log is [`Pod::log_path`].
    pub(crate) fn container(&self, id: &str) -> CreateContainer {
        let bundle = self.dir.path().join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        let log = Some(LogTarget::new(self.log_path(id)));
        CreateContainer {
            id: id.to_owned(),
            bundle,
            log,
            ..CreateContainer::default()
        }
    }

    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.dir.path().join(format!("logs/{id}.log"))
    }

    /// The contents of the log's records, all of which must be whole.
    pub(crate) fn log(&self, id: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.log_path(id)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    /// Lets go on what waits at a step: `create c`, `start c`, `exec e`.
    pub(crate) fn release(&self, step: &str) {
        (&self.shared().gates[step]).write_all(b"x").unwrap();
    }

    /// The process of a container or an exec writes.
    pub(crate) fn write(&self, name: &str, stderr: bool, text: &[u8]) {
        let stream = self.output(name, stderr);
        std::fs::File::from(stream).write_all(text).unwrap();
    }

    /// A copy of a process's output, as a process that survives it would hold.
    pub(crate) fn output(&self, name: &str, stderr: bool) -> OwnedFd {
        let shared = self.shared();
        let stdio = &shared.stdio[name];
        if stderr { &stdio.stderr } else { &stdio.stdout }
            .try_clone()
            .unwrap()
    }

    /// A copy of a process's input.
    pub(crate) fn input(&self, name: &str) -> OwnedFd {
        self.shared().stdio[name].stdin.try_clone().unwrap()
    }

    /// The process of a container closes its input.
    pub(crate) fn close_input(&self, name: &str) {
        let null = std::fs::File::open("/dev/null").unwrap();
        self.shared().stdio.get_mut(name).unwrap().stdin = null.into();
    }

    /// The process of a container or an exec ends.
    pub(crate) fn end(&self, name: &str, ending: Ending) {
        end(&mut self.shared(), &self.wake, name, ending);
    }

    /// Waits for the monitor to end by itself.
    pub(crate) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}
