//! Sources of bind mounts: where they really are, and how the mounts they lie on propagate.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::{ffi::OsStringExt as _, fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use super::{
    super::{MountSource, SourcePropagation},
    Context as _, GatherError,
};
use crate::proto::{Mount, MountPropagation};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// By `Mount.host_path`. What isn't there is made, as a folder with mode 0755. Paths that aren't absolute are left out,
/// for the translation to refuse.
pub(super) fn sources(mounts: &[Mount]) -> Result<BTreeMap<String, MountSource>, GatherError> {
    // Private mounts, the usual ones, don't depend on the source's propagation.
    let propagating = |mount: &Mount| mount.propagation() != MountPropagation::PropagationPrivate;
    let table = if mounts.iter().any(propagating) {
        fs::read(MOUNTINFO).context("read", MOUNTINFO)?
    } else {
        Vec::new()
    };
    let mut sources = BTreeMap::new();
    for mount in mounts
        .iter()
        .filter(|mount| mount.image.is_none() && mount.host_path.starts_with('/'))
    {
        let path = resolved(Path::new(&mount.host_path))?;
        let propagation = propagation(&table, &path);
        sources.insert(mount.host_path.clone(), MountSource { path, propagation });
    }
    Ok(sources)
}

fn resolved(path: &Path) -> Result<PathBuf, GatherError> {
    match fs::canonicalize(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .context("create folder", path)?;
            fs::canonicalize(path).context("resolve", path)
        }
        resolved => resolved.context("resolve", path),
    }
}

/// How the mount that `path` lies on propagates, by the text of `/proc/self/mountinfo` (proc(5)).
fn propagation(table: &[u8], path: &Path) -> SourcePropagation {
    let mut best: Option<(usize, SourcePropagation)> = None;
    for line in table.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(mount_point) = fields.nth(4).map(unescaped) else {
            continue;
        };
        let depth = mount_point.components().count();
        // Of mounts on the same point the last one is seen.
        if path.starts_with(&mount_point) && best.is_none_or(|(deepest, _)| depth >= deepest) {
            let tags: Vec<&[u8]> = fields.skip(1).take_while(|field| field != b"-").collect();
            let has = |tag: &[u8]| tags.iter().any(|field| field.starts_with(tag));
            let propagation = match (has(b"shared:"), has(b"master:")) {
                (true, _) => SourcePropagation::Shared,
                (false, true) => SourcePropagation::Slave,
                (false, false) => SourcePropagation::Private,
            };
            best = Some((depth, propagation));
        }
    }
    best.map_or(SourcePropagation::Private, |(_, propagation)| propagation)
}

/// The kernel writes blanks, tabs, line ends and backslashes as `\` and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TABLE: &[u8] = br"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:30 / /mnt rw - tmpfs tmpfs rw
31 30 0:31 / /mnt/a\040b rw master:5 - tmpfs tmpfs rw
32 30 0:32 / /mnt/twice rw - tmpfs tmpfs rw
33 32 0:33 / /mnt/twice rw shared:7 master:1 - tmpfs tmpfs rw
";

    #[test]
    fn the_nearest_mount_above_decides() {
        use SourcePropagation::{Private, Shared, Slave};
        for (path, want) in [
            ("/", Shared),
            ("/etc", Shared),
            ("/mnt", Private),
            ("/mntx", Shared),
            ("/mnt/a b/c", Slave),
            ("/mnt/twice/x", Shared),
        ] {
            assert_eq!(propagation(TABLE, Path::new(path)), want, "{path}");
        }
        assert_eq!(propagation(b"", Path::new("/")), Private);
    }

    #[test]
    fn sources_are_made_and_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("new", root.join("link")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        let mount = |name: &str| Mount {
            host_path: root.join(name).display().to_string(),
            ..Default::default()
        };
        let found = sources(&[mount("new/deep"), mount("file"), Mount::default()]).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[&mount("new/deep").host_path].path, root.join("new/deep"));
        assert_eq!(
            fs::metadata(root.join("new")).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(
            sources(&[mount("link/deep")]).unwrap()[&mount("link/deep").host_path].path,
            root.join("new/deep")
        );
    }

    #[test]
    fn a_source_below_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let path = dir.path().join("file/below").display().to_string();
        let error = sources(&[Mount {
            host_path: path.clone(),
            ..Default::default()
        }])
        .unwrap_err();
        assert!(error.to_string().contains(&path), "{error}");
    }

    #[test]
    fn propagation_is_looked_up_where_it_matters() {
        let mount = Mount {
            host_path: "/proc".to_owned(),
            propagation: 1,
            ..Default::default()
        };
        assert!(sources(&[mount]).unwrap().contains_key("/proc"));
    }
}
