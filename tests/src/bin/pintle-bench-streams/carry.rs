//! One daemon, and the ways in which content is carried into its pods and out of them.

use std::fs::File;
use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_cri::v1::{AttachRequest, ContainerConfig, ExecRequest};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::Mode;
use pintle_tests::stream::{forward, remote};
use pintle_tests::world::{Running, World};
use pintle_tests::{host, pod};

use crate::client::{Kind, Session, Transport};
use crate::content::{Content, compare};

/// Nothing takes longer.
const LONGEST: Duration = Duration::from_secs(300);

/// Takes all input. The shell keeps standard output open meanwhile: containerd ends a session whose process closes it.
const TAKE: &str = "cat > /shared/in; true";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ExecOut,
    ExecIn,
    AttachOut,
    AttachIn,
    ForwardOut,
    ForwardIn,
}

impl Way {
    pub(crate) const ALL: [Way; 6] = [
        Way::ExecOut,
        Way::ExecIn,
        Way::AttachOut,
        Way::AttachIn,
        Way::ForwardOut,
        Way::ForwardIn,
    ];

    /// Name for the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::ExecOut => "exec, out",
            Way::ExecIn => "exec, in",
            Way::AttachOut => "attach, out (and into the log)",
            Way::AttachIn => "attach, in",
            Way::ForwardOut => "port-forward, out",
            Way::ForwardIn => "port-forward, in",
        }
    }
}

/// A daemon with a pod, and the content where containers find it.
pub(crate) struct Target {
    world: World,
    image: String,
    content: Content,
    /// A running container, for exec and port-forward.
    idle: Running,
}

impl Target {
    pub(crate) async fn new(world: World, content: &Content) -> Result<Target> {
        let image = world.busybox().await?;
        content.store(&world.slot.root().join("content"))?;
        let shared = world.slot.root().join("shared");
        std::fs::create_dir(&shared)?;
        nix::unistd::mkfifo(&shared.join("in"), Mode::S_IRWXU)?;
        let container = mounted(&world, pod::idle("idle", &image));
        let idle = world.run(pod::pod(&world.slot, "streams"), &container).await?;
        Ok(Target {
            world,
            image,
            content: content.clone(),
            idle,
        })
    }

    /// Carries the content once; how long that took.
    pub(crate) async fn carry(&self, way: Way, transport: Transport) -> Result<Duration> {
        match way {
            Way::ExecOut => self.exec(transport, "cat /content", false).await,
            Way::ExecIn => self.exec(transport, TAKE, true).await,
            Way::AttachOut => self.attach(transport, "read go; cat /content", false).await,
            Way::AttachIn => self.attach(transport, TAKE, true).await,
            Way::ForwardOut => self.forward(transport, false).await,
            Way::ForwardIn => self.forward(transport, true).await,
        }
    }

    async fn exec(&self, transport: Transport, script: &str, stdin: bool) -> Result<Duration> {
        let request = ExecRequest {
            stdin,
            stderr: false,
            ..remote::exec_request(&self.idle.container, &["sh", "-c", script])
        };
        let url = remote::exec_url(&self.world.cri, request).await?;
        let kind = Kind::Remote { stdin };
        let (content, fifo) = (self.content.clone(), self.fifo());
        within(move || {
            let begin = Instant::now();
            let session = Session::open(&url, transport, kind)?;
            match stdin {
                true => carry_in(session, &content, || compare(&content, open_fifo(&fifo)?)),
                false => carry_out(session, &content, begin),
            }
        })
        .await
    }

    async fn attach(&self, transport: Transport, script: &str, into: bool) -> Result<Duration> {
        let mut container = mounted(&self.world, pod::shell("attached", &self.image, script));
        (container.stdin, container.stdin_once) = (true, true);
        let running = self
            .world
            .run(pod::pod(&self.world.slot, "attached"), &container)
            .await?;
        let request = AttachRequest {
            stderr: false,
            ..remote::attach_request(&running.container)
        };
        let url = remote::attach_url(&self.world.cri, request).await?;
        let kind = Kind::Remote { stdin: true };
        let (content, fifo) = (self.content.clone(), self.fifo());
        let took = within(move || {
            let mut session = Session::open(&url, transport, kind)?;
            if into {
                return carry_in(session, &content, || compare(&content, open_fifo(&fifo)?));
            }
            let begin = Instant::now();
            session.send(b"\n")?;
            carry_out(session, &content, begin)
        })
        .await;
        self.world.remove(&running.pod).await?;
        std::fs::remove_file(&running.log).with_context(|| running.log.display().to_string())?;
        took
    }

    async fn forward(&self, transport: Transport, into: bool) -> Result<Duration> {
        let pids = host::pids_in_cgroup(&self.world.slot.cgroup());
        let pid = *pids.first().context("a process in the pod")?;
        let listener = forward::inside(pid, || TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        let url = forward::url(&self.world.cri, &self.idle.pod, &[i32::from(port)]).await?;
        let content = self.content.clone();
        within(move || {
            let begin = Instant::now();
            let session = Session::open(&url, transport, Kind::Forward(port))?;
            let accept = || anyhow::Ok(listener.accept()?.0);
            if into {
                return carry_in(session, &content, || compare(&content, accept()?));
            }
            thread::scope(|scope| {
                let sender = scope.spawn(|| serve(&content, &accept()?));
                let took = carry_out(session, &content, begin);
                sender
                    .join()
                    .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
                took
            })
        })
        .await
    }

    fn fifo(&self) -> PathBuf {
        self.world.slot.root().join("shared/in")
    }
}

/// The content over a connection with nothing between: what the machine can do at most.
pub(crate) async fn bare(content: &Content) -> Result<Duration> {
    let content = content.clone();
    within(move || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let socket = TcpStream::connect(listener.local_addr()?)?;
        let accepted = listener.accept()?.0;
        let begin = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| serve(&content, &accepted));
            compare(&content, socket)
        })?;
        Ok(begin.elapsed())
    })
    .await
}

/// Runs what blocks.
async fn within<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::time::timeout(LONGEST, tokio::task::spawn_blocking(work))
        .await
        .context("it takes too long")??
}

fn mounted(world: &World, container: ContainerConfig) -> ContainerConfig {
    let root = world.slot.root();
    let path = |name: &str| root.join(name).display().to_string();
    let container = pod::with_mount(container, &path("content"), "/content", true);
    pod::with_mount(container, &path("shared"), "/shared", false)
}

/// Waits for the container to open it, too.
fn open_fifo(path: &PathBuf) -> Result<File> {
    let fifo = File::open(path)?;
    // As wide as whoever reads much would make it.
    fcntl(&fifo, FcntlArg::F_SETPIPE_SZ(1 << 20))?;
    Ok(fifo)
}

fn serve(content: &Content, socket: &TcpStream) -> Result<()> {
    content.write(socket)?;
    socket.shutdown(Shutdown::Write)?;
    // The other side ends it.
    let mut socket = socket;
    drop(socket.read(&mut [0]));
    Ok(())
}

fn carry_out(mut session: Session, content: &Content, begin: Instant) -> Result<Duration> {
    session.receive(Some(content))?;
    let took = begin.elapsed();
    session.close();
    Ok(took)
}

/// Until `read` has seen all of it.
fn carry_in(
    mut session: Session,
    content: &Content,
    read: impl FnOnce() -> Result<()> + Send,
) -> Result<Duration> {
    let (mut answers, closer) = (session.try_clone()?, session.try_clone()?);
    thread::scope(|scope| {
        // What the server has to say besides; it ends with the connection.
        scope.spawn(move || answers.receive(None));
        let reader = scope.spawn(move || {
            let seen = read();
            if seen.is_err() {
                // Nobody would take what is still to be sent.
                closer.close();
            }
            seen
        });
        let begin = Instant::now();
        let sent = session.send_all(content);
        let seen = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"));
        let took = begin.elapsed();
        session.close();
        seen??;
        sent?;
        Ok(took)
    })
}
