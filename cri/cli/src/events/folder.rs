//! Waits for a daemon's socket: the daemon gives it its name once it listens, and the kernel tells of that.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

/// A watch on the socket's folder. What happens between two calls of [`Folder::changed`] isn't lost.
pub(crate) struct Folder(Receiver<()>);

impl Folder {
    /// Watches from now on.
    pub(crate) fn watch(socket: &Path) -> Result<Folder> {
        let name = socket
            .file_name()
            .with_context(|| format!("{} is no file's path", socket.display()))?
            .to_owned();
        let folder = match socket.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let watch = Inotify::init(InitFlags::IN_CLOEXEC).context("inotify")?;
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        watch
            .add_watch(folder, flags)
            .with_context(|| format!("is pintled running? watch {}", folder.display()))?;
        // One is enough: that something happened since somebody asked.
        let (send, receive) = channel(1);
        std::thread::Builder::new()
            .name("folder".to_owned())
            .spawn(move || listen(&watch, &name, &send))
            .context("start a thread")?;
        Ok(Folder(receive))
    }

    /// Waits until a socket of that name was made since the last call.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        self.0
            .recv()
            .await
            .context("the folder of the daemon's socket is gone")
    }
}

/// Ends with the folder, or with whoever listens.
fn listen(watch: &Inotify, socket: &OsStr, send: &Sender<()>) {
    loop {
        let events = match watch.read_events() {
            Ok(events) => events,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        // An event without a name: the queue had no room for what happened, so it may have been that.
        let is_it = |name: &Option<OsString>| name.as_deref().is_none_or(|name| name == socket);
        if events.iter().any(|event| is_it(&event.name))
            && matches!(send.try_send(()), Err(TrySendError::Closed(())))
        {
            return;
        }
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF;
        if events.iter().any(|event| event.mask.intersects(gone)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn tells_of_the_socket_alone_and_forgets_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let socket = tmp.path().join("pintle.sock");
        let mut folder = Folder::watch(&socket).unwrap();
        fs::write(tmp.path().join("other"), "").unwrap();
        fs::write(tmp.path().join("pintle.sock.new"), "").unwrap();
        fs::rename(tmp.path().join("pintle.sock.new"), &socket).unwrap();
        folder.changed().await.unwrap();
        assert!(folder.0.is_empty(), "once is all that it has happened");
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "").unwrap();
        folder.changed().await.unwrap();
        fs::remove_dir_all(tmp.path()).unwrap();
        // The folder's own end is an event, too, and then there is none any more.
        while folder.changed().await.is_ok() {}
        assert!(Folder::watch(&socket).is_err());
    }
}
