//! Device nodes of the host.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::ErrorKind,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use super::{
    super::{DeviceKind, HostDevice},
    Context as _, GatherError,
};
use crate::proto::Device;

/// Folders within folders that are looked into.
const DEPTH_MAX: usize = 8;
/// What containers have of their own, or must not have.
const NOT_PASSED: [&str; 12] = [
    "console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero",
];

/// By `Device.host_path`: the device itself, or those below the folder of that name.
pub(super) fn of_config(devices: &[Device]) -> Result<BTreeMap<String, Vec<HostDevice>>, GatherError> {
    let mut found = BTreeMap::new();
    for device in devices.iter().filter(|device| device.host_path.starts_with('/')) {
        let path = Path::new(&device.host_path);
        let metadata = fs::metadata(path).context("look up device", path)?;
        let nodes = match node(&metadata, Path::new("")) {
            Some(node) => vec![node],
            None if metadata.is_dir() => {
                let mut nodes = Vec::new();
                below(path, Path::new(""), DEPTH_MAX, &mut nodes)?;
                nodes
            }
            None => {
                return Err(GatherError::NoDevice {
                    path: device.host_path.clone(),
                });
            }
        };
        found.insert(device.host_path.clone(), nodes);
    }
    Ok(found)
}

/// Every device under /dev but those that each container has of its own; with absolute paths.
pub(super) fn of_host() -> Result<Vec<HostDevice>, GatherError> {
    let dev = Path::new("/dev");
    let mut all = Vec::new();
    for entry in fs::read_dir(dev).context("list", dev)? {
        let entry = entry.context("list", dev)?;
        if !entry
            .file_name()
            .to_str()
            .is_some_and(|name| NOT_PASSED.contains(&name))
        {
            visit(&entry.path(), &entry.path(), DEPTH_MAX, &mut all)?;
        }
    }
    all.sort_by(|a, b| a.below.cmp(&b.below));
    Ok(all)
}

fn below(dir: &Path, name: &Path, depth: usize, found: &mut Vec<HostDevice>) -> Result<(), GatherError> {
    for entry in fs::read_dir(dir).context("list", dir)? {
        let entry = entry.context("list", dir)?;
        visit(&entry.path(), &name.join(entry.file_name()), depth, found)?;
    }
    found.sort_by(|a, b| a.below.cmp(&b.below));
    Ok(())
}

/// Symlinks are left out: what they lead to is found by its own name. So is what has just gone.
fn visit(path: &Path, name: &Path, depth: usize, found: &mut Vec<HostDevice>) -> Result<(), GatherError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata.context("look up", path)?,
    };
    if metadata.is_dir() && depth > 0 {
        return below(path, name, depth - 1, found);
    }
    found.extend(node(&metadata, name));
    Ok(())
}

fn node(metadata: &Metadata, name: &Path) -> Option<HostDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_block_device() => DeviceKind::Block,
        kind if kind.is_char_device() => DeviceKind::Char,
        _ => return None,
    };
    Some(HostDevice {
        below: name.to_owned(),
        kind,
        major: i64::try_from(nix::sys::stat::major(metadata.rdev())).unwrap_or(i64::MAX),
        minor: i64::try_from(nix::sys::stat::minor(metadata.rdev())).unwrap_or(i64::MAX),
        mode: metadata.mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str) -> Device {
        Device {
            host_path: path.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_device_is_found_by_its_name_and_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let link = link.display().to_string();
        let found = of_config(&[device("/dev/null"), device(&link)]).unwrap();
        assert_eq!(found["/dev/null"], found[&link]);
        let null = &found["/dev/null"][0];
        assert_eq!(
            (null.kind, null.major, null.minor, null.mode),
            (DeviceKind::Char, 1, 3, 0o666)
        );
    }

    #[test]
    fn a_folder_stands_for_its_devices() {
        let found = of_config(&[device("/dev")]).unwrap();
        assert!(found["/dev"].iter().any(|d| d.below == Path::new("null")));
        assert!(found["/dev"].iter().all(|d| d.below.is_relative()));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert!(of_config(&[device("/dev/no-such-device")]).is_err());
        assert!(matches!(
            of_config(&[device("/proc/self/status")]),
            Err(GatherError::NoDevice { .. })
        ));
    }

    #[test]
    fn containers_get_no_console_and_no_terminals_of_the_host() {
        let all = of_host().unwrap();
        assert!(all.iter().all(|d| d.below.is_absolute()));
        for name in ["/dev/console", "/dev/null", "/dev/pts/0", "/dev/ptmx"] {
            assert!(all.iter().all(|d| d.below != Path::new(name)), "{name}");
        }
    }
}
