//! Plugins that are installed: programs `NN-name` in a folder, started with the daemon and ended with it.
//!
//! Each gets a connected socket as descriptor 3 and three variables of environment that say so. Its configuration is the
//! text of `NN-name.conf`, else of `name.conf`, in the folder of configurations.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use command_fds::{CommandFdExt as _, FdMapping};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::NriError;
use super::listen::{Installed, admit};
use super::plugin::full_name;
use crate::core::Core;

/// The descriptor of the socket in the plugin.
const SOCKET: i32 = 3;
/// A configuration of more bytes is a mistake.
const LONGEST_CONFIG: u64 = 1 << 20;

/// Starts all installed plugins, and waits until each has joined or failed to. Failures are logged.
pub(super) async fn installed(core: &Arc<Core>) {
    let mut joining = tokio::task::JoinSet::new();
    for found in discover(&core.nri.config.plugin_path) {
        let (path, name) = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "an installed NRI plugin is passed over");
                continue;
            }
        };
        let core = Arc::clone(core);
        joining.spawn(async move {
            if let Err(error) = start(&core, &path, name).await {
                tracing::warn!(%error, "an installed NRI plugin could not join");
            }
        });
    }
    while joining.join_next().await.is_some() {}
}

/// The programs of the folder, by name, and what is none.
fn discover(folder: &Path) -> Vec<Result<(PathBuf, String), NriError>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    paths.into_iter().filter(is_program).map(named).collect()
}

fn named(path: PathBuf) -> Result<(PathBuf, String), NriError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (index, base) = name.split_once('-').unwrap_or((&name, ""));
    let full = full_name(index, base).map_err(|error| NriError::Launch {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    Ok((path, full))
}

/// The plugin's configuration; empty where there is none.
fn configuration(folder: &Path, name: &str) -> Result<String, NriError> {
    let base = name.split_once('-').map_or(name, |(_, base)| base);
    for file in [format!("{name}.conf"), format!("{base}.conf")] {
        let path = folder.join(file);
        let failed = |reason: String| NriError::Launch {
            path: path.clone(),
            reason,
        };
        match fs::metadata(&path) {
            Ok(about) if about.len() > LONGEST_CONFIG => return Err(failed("is too long".to_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            _ => {}
        }
        return fs::read_to_string(&path).map_err(|e| failed(format!("read: {e}")));
    }
    Ok(String::new())
}

async fn start(core: &Arc<Core>, path: &Path, name: String) -> Result<(), NriError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| NriError::Launch {
        path: path.to_owned(),
        reason: format!("{what}: {error}"),
    };
    let config = configuration(&core.nri.config.plugin_config_path, &name)?;
    let (ours, theirs) = UnixStream::pair().map_err(|e| failed("make a socket", &e))?;
    let theirs = theirs
        .into_std()
        .and_then(|socket| socket.set_nonblocking(false).map(|()| socket))
        .map_err(|e| failed("make a socket", &e))?;
    let child = spawn(path, &name, theirs.into()).map_err(|e| failed("start", &e))?;
    let plugin = admit(core, ours, Some(Installed { name, config })).await?;
    // Its process ends with the connection, and the connection with the process.
    tokio::spawn(async move {
        let mut child = child;
        tokio::select! {
            () = plugin.wait_gone() => drop(child.kill().await),
            _ = child.wait() => plugin.close(),
        }
    });
    Ok(())
}

fn spawn(path: &Path, name: &str, socket: OwnedFd) -> std::io::Result<Child> {
    let (index, base) = name.split_once('-').unwrap_or((name, ""));
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("NRI_PLUGIN_NAME", base)
        .env("NRI_PLUGIN_IDX", index)
        .env("NRI_PLUGIN_SOCKET", SOCKET.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
        .as_std_mut()
        .fd_mappings(vec![FdMapping {
            parent_fd: socket,
            child_fd: SOCKET,
        }])
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_mode() {
        let tmp = tempfile::tempdir().unwrap();
        let add = |name: &str, mode: u32| {
            let path = tmp.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        add("20-b", 0o755);
        add("10-a", 0o755);
        add("30-readme.txt", 0o644);
        add("nonsense", 0o755);
        let found = discover(tmp.path());
        let names: Vec<_> = found
            .iter()
            .filter_map(|f| Some(f.as_ref().ok()?.1.as_str()))
            .collect();
        assert_eq!(names, ["10-a", "20-b"]);
        assert_eq!(found.len(), 3, "what is no plugin's name is told");
        assert!(discover(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn the_more_exact_configuration_wins() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(configuration(tmp.path(), "10-a").unwrap(), "");
        fs::write(tmp.path().join("a.conf"), "of a").unwrap();
        assert_eq!(configuration(tmp.path(), "10-a").unwrap(), "of a");
        fs::write(tmp.path().join("10-a.conf"), "of 10-a").unwrap();
        assert_eq!(configuration(tmp.path(), "10-a").unwrap(), "of 10-a");
    }
}
