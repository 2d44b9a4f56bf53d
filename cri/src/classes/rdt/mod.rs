//! Classes of RDT: groups of the kernel's resctrl file system, which this processor's caches and memory bandwidth are
//! divided among.
//!
//! ```text
//! config.rs    the file
//! hardware.rs  what there is to divide
//! share.rs     shares as bits of masks
//! plan.rs      both brought together
//! ```
//!
//! Groups are made when the daemon starts, and stay when it ends: containers are in them. Those that it has made and that the
//! file has no longer are removed at the next start, if nothing is in them; those of others are left alone.

mod config;
mod hardware;
mod plan;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use self::config::{File, Kubernetes};
use self::hardware::Hardware;
use self::plan::{Planned, ROOT, plan};
use super::{Origin, RDT};
use crate::error::{Error, IoContext as _, Result};

/// The setting that names the file.
const SETTING: &str = "runtime.rdt_config_file";

/// The classes that there are.
#[derive(Debug)]
pub struct Rdt {
    /// Where resctrl is mounted.
    root: PathBuf,
    /// Those of the file, and by whom each may not be chosen.
    classes: BTreeMap<String, Kubernetes>,
    /// Why the file's classes could not be made.
    refusal: Option<String>,
}

impl Rdt {
    /// Makes the file's classes in the resctrl that is mounted on `root`; without a file there are those that somebody else
    /// has made. `record` is where the names of those that were made are kept until reboot. Blocking.
    ///
    /// A node that can't have the classes serves all other containers: that is logged, and told to those who ask for one.
    ///
    /// # Errors
    /// A file that can't be read, or is none of this form.
    pub fn open(file: Option<&Path>, root: &Path, record: &Path) -> Result<Self> {
        let mut rdt = Self {
            root: root.to_owned(),
            classes: BTreeMap::new(),
            refusal: None,
        };
        let Some(path) = file else { return Ok(rdt) };
        let text = fs::read_to_string(path).io("read", path)?;
        let file = File::parse(&text)
            .map_err(|why| Error::invalid(SETTING, format!("{}: {why}", path.display())))?;
        let made = Hardware::read(root)
            .and_then(|hardware| plan(&file, &hardware))
            .and_then(|planned| {
                make(root, &planned, record)?;
                Ok(planned)
            });
        match made {
            Ok(planned) => {
                let denied = planned.into_iter().map(|(name, class)| (name, class.denied));
                rdt.classes = denied.collect();
            }
            Err(reason) => {
                tracing::error!(file = %path.display(), reason, "there are no classes of RDT");
                rdt.refusal = Some(reason);
            }
        }
        Ok(rdt)
    }

    /// The group of a class; None for the one that a container is in anyway. Blocking.
    ///
    /// # Errors
    /// A class that isn't there, or isn't to be had by annotation. With its limits made up, it would protect nobody.
    pub(super) fn group(&self, class: &str, origin: Origin) -> Result<Option<String>> {
        let refuse = |reason: &str| Err(Error::invalid(RDT.own, format!("{class:?}: {reason}")));
        if let Some(reason) = &self.refusal {
            return refuse(reason);
        }
        if !self.root.join("schemata").exists() {
            return refuse("this node has no resctrl file system mounted");
        }
        let denied = self.classes.get(class).copied().unwrap_or_default();
        match origin {
            Origin::Pod if denied.deny_pod_annotation => {
                return refuse("it is not to be had by annotations of pods");
            }
            Origin::Container if denied.deny_container_annotation => {
                return refuse("it is not to be had by annotations of containers");
            }
            _ => {}
        }
        if class == ROOT {
            return Ok(None);
        }
        if class.contains('/')
            || matches!(class, "." | "..")
            || !self.root.join(class).join("schemata").exists()
        {
            return refuse("there is no such class on this node");
        }
        Ok(Some(class.to_owned()))
    }
}

/// Makes the groups, and removes those of an earlier file.
fn make(root: &Path, planned: &BTreeMap<String, Planned>, record: &Path) -> Result<(), String> {
    let before = read_record(record);
    let mut ours: BTreeSet<String> = before
        .into_iter()
        .filter(|name| planned.contains_key(name) || !is_removed(&root.join(name)))
        .collect();
    let is_new = |name: &&String| *name != ROOT && !root.join(name).exists();
    ours.extend(planned.keys().filter(is_new).cloned());
    // Before they are there: what a crash leaves is known to be ours.
    write_record(record, &ours)?;
    for (name, class) in planned {
        let folder = if name == ROOT {
            root.to_owned()
        } else {
            root.join(name)
        };
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(format!("make group {name:?}: {}", reason(root, &error)));
            }
            _ => {}
        }
        if !class.schemata.is_empty() {
            fs::write(folder.join("schemata"), &class.schemata)
                .map_err(|error| format!("set limits of group {name:?}: {}", reason(root, &error)))?;
        }
    }
    Ok(())
}

/// The kernel's own words say more than its error number.
fn reason(root: &Path, error: &std::io::Error) -> String {
    let told = fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    match told.trim() {
        "" | "ok" => error.to_string(),
        told => told.to_owned(),
    }
}

/// Removes a group that nothing is in.
fn is_removed(group: &Path) -> bool {
    let tasks = fs::read_to_string(group.join("tasks")).unwrap_or_default();
    if !tasks.trim().is_empty() {
        tracing::warn!(group = %group.display(), "no file has this class any more, and it is in use");
        return false;
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(group = %group.display(), %error, "a class of an earlier file can't be removed");
            false
        }
    }
}

fn read_record(record: &Path) -> BTreeSet<String> {
    let text = fs::read(record).unwrap_or_default();
    let names: BTreeSet<String> = serde_json::from_slice(&text).unwrap_or_default();
    // They become paths; a damaged file leads nowhere.
    let plain = |name: &String| !name.contains('/') && !matches!(name.as_str(), "" | "." | "..");
    names.into_iter().filter(plain).collect()
}

fn write_record(record: &Path, names: &BTreeSet<String>) -> Result<(), String> {
    let new = record.with_extension("new");
    let text = serde_json::to_vec(names).map_err(|error| error.to_string())?;
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, record))
        .map_err(|error| format!("write {}: {error}", record.display()))
}

#[cfg(test)]
mod testing {
    //! A folder that plays resctrl.

    use std::fs;
    use std::path::Path;

    /// Two L3 caches of 20 ways, and memory bandwidth by percents.
    pub(super) fn play_resctrl(root: &Path) {
        for (name, text) in [
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n"),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::play_resctrl;
    use super::*;

    const FILE: &str = "partitions: {p: {l3Allocation: \"100%\", classes: {gold: , \
        silver: {l3Allocation: \"50%\", kubernetes: {denyPodAnnotation: true, denyContainerAnnotation: false}}, \
        \"\": {l3Allocation: \"10%\"}}}}";

    struct Bench {
        tmp: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Bench {
            let tmp = tempfile::tempdir().unwrap();
            fs::write(tmp.path().join("rdt.yaml"), FILE).unwrap();
            fs::create_dir(tmp.path().join("resctrl")).unwrap();
            Bench { tmp }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.tmp.path().join(name)
        }

        fn open(&self, with_file: bool) -> Result<Rdt> {
            let file = with_file.then(|| self.path("rdt.yaml"));
            Rdt::open(file.as_deref(), &self.path("resctrl"), &self.path("record"))
        }

        fn schemata(&self, group: &str) -> String {
            fs::read_to_string(self.path("resctrl").join(group).join("schemata")).unwrap_or_default()
        }
    }

    fn refusal(rdt: &Rdt, class: &str) -> String {
        rdt.group(class, Origin::Pod).unwrap_err().to_string()
    }

    #[test]
    fn groups_are_made_and_chosen() {
        let bench = Bench::new();
        play_resctrl(&bench.path("resctrl"));
        let rdt = bench.open(true).unwrap();
        assert_eq!(bench.schemata("gold"), "L3:0=fffff;1=fffff\nMB:0=100;1=100\n");
        assert_eq!(bench.schemata("silver"), "L3:0=3ff;1=3ff\nMB:0=100;1=100\n");
        assert!(
            bench.schemata("").starts_with("L3:0=3;1=3\n"),
            "the root group, too"
        );
        assert_eq!(rdt.group("gold", Origin::Pod).unwrap().as_deref(), Some("gold"));
        assert_eq!(rdt.group(ROOT, Origin::Pod).unwrap(), None);
        assert!(refusal(&rdt, "silver").contains("annotations of pods"));
        assert!(rdt.group("silver", Origin::Container).is_ok());
        for other in ["lead", "..", "gold/x", "info"] {
            assert!(refusal(&rdt, other).contains("no such class"), "{other}");
        }
    }

    #[test]
    fn classes_without_a_file_must_be_there() {
        let bench = Bench::new();
        let rdt = bench.open(false).unwrap();
        assert!(refusal(&rdt, "gold").contains("no resctrl file system"));
        play_resctrl(&bench.path("resctrl"));
        assert!(refusal(&rdt, "gold").contains("no such class"));
        fs::create_dir(bench.path("resctrl/gold")).unwrap();
        fs::write(bench.path("resctrl/gold/schemata"), "").unwrap();
        assert_eq!(rdt.group("gold", Origin::Pod).unwrap().as_deref(), Some("gold"));
    }

    #[test]
    fn what_the_node_can_not_have_is_refused_to_those_who_ask() {
        let bench = Bench::new();
        let rdt = bench.open(true).unwrap();
        assert!(refusal(&rdt, "gold").contains("no resctrl file system is mounted"));
        fs::write(bench.path("rdt.yaml"), "partitions: [").unwrap();
        let error = bench.open(true).unwrap_err().to_string();
        assert!(
            error.contains("rdt_config_file") && error.contains("rdt.yaml"),
            "{error}"
        );
        fs::remove_file(bench.path("rdt.yaml")).unwrap();
        assert!(matches!(bench.open(true), Err(Error::Io { .. })));
    }

    #[test]
    fn only_our_own_groups_are_removed_and_only_empty_ones() {
        let bench = Bench::new();
        play_resctrl(&bench.path("resctrl"));
        fs::create_dir(bench.path("resctrl/theirs")).unwrap();
        bench.open(true).unwrap();
        assert_eq!(
            read_record(&bench.path("record")).len(),
            2,
            "the root is nobody's"
        );
        // As the kernel does it: a group's files go with its folder.
        fs::remove_file(bench.path("resctrl/gold/schemata")).unwrap();
        fs::write(bench.path("resctrl/silver/tasks"), "42\n").unwrap();
        fs::write(
            bench.path("rdt.yaml"),
            "partitions: {p: {classes: {bronze: , theirs: }}}",
        )
        .unwrap();
        let rdt = bench.open(true).unwrap();
        assert!(!bench.path("resctrl/gold").exists() && bench.path("resctrl/silver").exists());
        assert!(rdt.group("bronze", Origin::Pod).is_ok());
        let ours = read_record(&bench.path("record"));
        assert_eq!(ours.iter().collect::<Vec<_>>(), ["bronze", "silver"]);
        fs::write(bench.path("record"), "[\"../escape\", \"..\"]").unwrap();
        assert!(read_record(&bench.path("record")).is_empty());
    }
}
