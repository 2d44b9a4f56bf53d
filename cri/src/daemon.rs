//! The daemon's life: lock, open, recover, serve, end.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pintle_runtime::sandbox;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::admin::Admin;
use crate::config::Config;
use crate::core::Core;
use crate::error::{Error, IoContext as _, Result};
use crate::nri;
use crate::paths::Paths;
use crate::proto::admin::images_server::ImagesServer;
use crate::proto::image_service_server::ImageServiceServer;
use crate::proto::runtime_service_server::RuntimeServiceServer;
use crate::recover::recover;
use crate::server::{Deadline, RpcLog, Service};
use crate::streaming;

/// How long a call that is under way may go on after SIGTERM. Containers go on anyway.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// kubelet and crictl receive 16 MiB at most; a little more lets a full answer carry its frame.
const MESSAGE_LIMIT: usize = (16 << 20) + (64 << 10);

/// Serves the CRI until SIGTERM or SIGINT. Pods and containers are left running.
///
/// # Errors
/// Whatever keeps the daemon from serving: folders, another daemon, a store that can't be opened, the socket.
pub async fn serve(config: Config) -> Result<()> {
    let paths = Paths::new(config.root(), config.state());
    make_folders(&paths)?;
    let _lock = lock(&paths.lock())?;
    let _view = View::show(&paths)?;
    let mut stop = Stop::new()?;
    let core = Arc::new(tokio::task::block_in_place(|| Core::open(config, paths))?);
    recover(&core).await?;
    nri::start(&core).await;
    let socket = core.config.socket().to_owned();
    let listener = listen(&socket, core.config.socket_mode())?;
    tracing::info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "serving the CRI");
    let streams = tokio::spawn(stream(Arc::clone(&core)));
    let inspection = tokio::spawn(crate::inspect::serve(Arc::clone(&core)));
    pintle_runtime::let_go_of_program();
    let served = serve_on(listener, &core, &mut stop).await;
    streams.abort();
    inspection.abort();
    // Its socket goes with it.
    drop(inspection.await);
    nri::stop(&core).await;
    drop(fs::remove_file(&socket));
    served
}

/// [`Paths::view`] as long as the daemon serves. Containers have mounts of their own of what is in there; after a kill the
/// next daemon finds it.
struct View(PathBuf);

impl View {
    fn show(paths: &Paths) -> Result<Self> {
        let view = paths.view();
        sandbox::show_without_mounts(&paths.pods(), &view)?;
        Ok(Self(view))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Err(error) = sandbox::unmount(&self.0) {
            tracing::warn!(%error, "a mount of the daemon's stays");
        }
    }
}

async fn stream(core: Arc<Core>) {
    if let Err(error) = streaming::serve(core).await {
        tracing::error!(%error, "exec, attach and port-forward can't be served");
    }
}

async fn serve_on(listener: UnixListener, core: &Arc<Core>, stop: &mut Stop) -> Result<()> {
    let (ending, mut end) = tokio::sync::watch::channel(false);
    let service = Service::new(Arc::clone(core));
    let server = Server::builder()
        .layer(RpcLog)
        .layer(Deadline)
        .add_service(
            RuntimeServiceServer::new(service.clone())
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT),
        )
        .add_service(
            ImageServiceServer::new(service)
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT),
        )
        .add_service(ImagesServer::new(Admin::new(Arc::clone(core))))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
            drop(end.wait_for(|end| *end).await);
        });
    let grace = async {
        stop.requested().await;
        tracing::info!("ending: containers go on without the daemon");
        core.events.close();
        ending.send_replace(true);
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = grace => Ok(()),
    }
}

fn make_folders(paths: &Paths) -> Result<()> {
    for folder in [paths.root(), paths.state()] {
        fs::create_dir_all(folder).io("create folder", folder)?;
        // A pod's processes may have to pass through, but nobody has to look around.
        fs::set_permissions(folder, Permissions::from_mode(0o711)).io("set mode of", folder)?;
    }
    for folder in [paths.pods(), paths.volumes(), paths.seccomp_cache()] {
        fs::create_dir_all(&folder).io("create folder", &folder)?;
    }
    Ok(())
}

/// Two daemons on the same state would undo one another's work.
fn lock(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .io("open", path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Busy(path.to_owned())),
        Err(fs::TryLockError::Error(e)) => Err(e).io("lock", path),
    }
}

/// Listens at `path`, for its owner only from the first instant on: the socket gets its name once its mode is set.
pub(crate) fn listen(path: &Path, mode: u32) -> Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).io("create folder", folder)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::Busy(path.to_owned()));
    }
    let mut unnamed: PathBuf = path.to_owned();
    unnamed.as_mut_os_string().push(".new");
    drop(fs::remove_file(&unnamed));
    let listener = UnixListener::bind(&unnamed).io("bind socket", &unnamed)?;
    fs::set_permissions(&unnamed, Permissions::from_mode(mode)).io("set mode of", &unnamed)?;
    fs::rename(&unnamed, path).io("name socket", path)?;
    Ok(listener)
}

/// The signals that end the daemon.
struct Stop {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let watch = |kind| signal(kind).io("watch", "signals");
        Ok(Self {
            term: watch(SignalKind::terminate())?,
            int: watch(SignalKind::interrupt())?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_and_not_taken_from_a_living_daemon() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("deep/er/pintle.sock");
        let first = listen(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, 0o600), Err(Error::Busy(_))));
        drop(first);
        when_let_go(|| listen(&path, 0o600));
    }

    #[test]
    fn one_daemon_owns_the_state() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("lock");
        let held = lock(&path).unwrap();
        assert!(matches!(lock(&path), Err(Error::Busy(_))));
        drop(held);
        when_let_go(|| lock(&path));
    }

    /// Other tests of this process start programs, whose forks hold copies of every descriptor until they execute.
    fn when_let_go<T>(take: impl Fn() -> Result<T>) -> T {
        for _ in 0..500 {
            match take() {
                Err(Error::Busy(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
                taken => return taken.unwrap(),
            }
        }
        panic!("still busy");
    }
}
