//! What this node's processor can divide, as the resctrl file system tells it (the kernel's
//! Documentation/filesystems/resctrl.rst).

use std::fs;
use std::path::Path;

/// What can be divided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hardware {
    pub(super) l2: Option<Cache>,
    pub(super) l3: Option<Cache>,
    pub(super) mb: Option<Bandwidth>,
}

/// The caches of one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cache {
    /// `L2` or `L3`.
    pub(super) name: &'static str,
    /// Code and data have masks of their own.
    pub(super) is_apart: bool,
    /// How many bits a mask has.
    pub(super) bits: u32,
    /// The fewest bits that may be set.
    pub(super) least: u32,
    /// The caches' numbers.
    pub(super) ids: Vec<u64>,
}

/// Memory bandwidth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bandwidth {
    /// The least percentage.
    pub(super) least: u64,
    /// Limits are in MBps, not in percent.
    pub(super) in_mbps: bool,
    /// The numbers of what has a limit.
    pub(super) ids: Vec<u64>,
}

impl Hardware {
    /// Reads it from a mounted resctrl.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn read(root: &Path) -> Result<Hardware, String> {
        let schemata = read(&root.join("schemata"))
            .map_err(|_| format!("no resctrl file system is mounted on {}", root.display()))?;
        Ok(Hardware {
            l2: cache(root, "L2", &schemata)?,
            l3: cache(root, "L3", &schemata)?,
            mb: bandwidth(root, &schemata)?,
        })
    }
}

fn cache(root: &Path, name: &'static str, schemata: &str) -> Result<Option<Cache>, String> {
    let info = root.join("info");
    let apart = info.join(format!("{name}CODE"));
    let is_apart = apart.exists();
    let folder = if is_apart { apart } else { info.join(name) };
    if !folder.exists() {
        return Ok(None);
    }
    let mask = read(&folder.join("cbm_mask"))?;
    let mask = u64::from_str_radix(&mask, 16).map_err(|_| format!("{name}: {mask:?} is no mask"))?;
    Ok(Some(Cache {
        name,
        is_apart,
        bits: mask.trailing_ones(),
        least: number(&folder.join("min_cbm_bits"))?,
        ids: ids(schemata, name, if is_apart { "CODE" } else { "" })?,
    }))
}

fn bandwidth(root: &Path, schemata: &str) -> Result<Option<Bandwidth>, String> {
    let folder = root.join("info/MB");
    if !folder.exists() {
        return Ok(None);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    Ok(Some(Bandwidth {
        least: number(&folder.join("min_bandwidth"))?,
        in_mbps: is_in_mbps(&mounts, root),
        ids: ids(schemata, "MB", "")?,
    }))
}

fn is_in_mbps(mounts: &str, root: &Path) -> bool {
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind, options) = (words.next(), words.next(), words.next());
        point.is_some_and(|point| Path::new(point) == root)
            && kind == Some("resctrl")
            && options.is_some_and(|options| options.split(',').any(|option| option == "mba_MBps"))
    })
}

/// The numbers in the line of a resource: `L3:0=ff;1=ff`, `L3CODE:0=ff;1=ff`.
fn ids(schemata: &str, resource: &str, suffix: &str) -> Result<Vec<u64>, String> {
    let resource = format!("{resource}{suffix}");
    let line = schemata.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (name.trim() == resource).then_some(rest)
    });
    let number = |part: &str| part.split_once('=')?.0.trim().parse().ok();
    line.and_then(|line| line.split(';').map(number).collect())
        .ok_or_else(|| format!("schemata says nothing of {resource}"))
}

fn read(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

fn number<T: std::str::FromStr>(path: &Path) -> Result<T, String> {
    let text = read(path)?;
    text.trim()
        .parse()
        .map_err(|_| format!("{}: {text:?} is no number", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::play_resctrl;
    use super::*;

    #[test]
    fn a_folder_tells_what_there_is() {
        let tmp = tempfile::tempdir().unwrap();
        let error = Hardware::read(tmp.path()).unwrap_err();
        assert!(error.starts_with("no resctrl file system"), "{error}");
        play_resctrl(tmp.path());
        let found = Hardware::read(tmp.path()).unwrap();
        let l3 = found.l3.unwrap();
        assert_eq!(
            (l3.bits, l3.least, l3.ids.as_slice(), l3.is_apart),
            (20, 1, &[0, 1][..], false)
        );
        assert!(found.l2.is_none());
        let mb = found.mb.unwrap();
        assert_eq!(
            (mb.least, mb.in_mbps, mb.ids.as_slice()),
            (10, false, &[0, 1][..])
        );
        fs::rename(tmp.path().join("info/L3"), tmp.path().join("info/L3CODE")).unwrap();
        assert!(Hardware::read(tmp.path()).unwrap_err().contains("L3CODE"));
        fs::write(
            tmp.path().join("schemata"),
            "L3CODE:0=f\nL3DATA:0=f\nMB:0=100;1=100\n",
        )
        .unwrap();
        let l3 = Hardware::read(tmp.path()).unwrap().l3.unwrap();
        assert_eq!((l3.is_apart, l3.ids.as_slice()), (true, &[0][..]));
    }

    #[test]
    fn the_mount_says_how_bandwidth_is_counted() {
        let line = "resctrl /sys/fs/resctrl resctrl rw,relatime,mba_MBps 0 0";
        assert!(is_in_mbps(line, Path::new("/sys/fs/resctrl")));
        assert!(!is_in_mbps(line, Path::new("/elsewhere")));
        assert!(!is_in_mbps(
            "resctrl /sys/fs/resctrl resctrl rw 0 0",
            Path::new("/sys/fs/resctrl")
        ));
    }
}
