//! config.json: reading it, and refusing at once what can't be done.

use std::path::Path;

use oci_spec::runtime::{Process, Spec};

use super::lenient::{self, Read};
use super::{Cgroups, Options};
use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::process;
use crate::rootfs::mount_label;

/// A configuration of more than this many bytes is a mistake or an attack.
const MAX_CONFIG: u64 = 16 << 20;

/// Begins the name of a scope if the specification names none.
const SCOPE_PREFIX: &str = "pintle";

/// Reads and checks the bundle's configuration.
pub(super) fn load(options: &Options) -> Result<Read<Spec>> {
    let read = read_told(options)?;
    check(&read.value, options)?;
    Ok(read)
}

/// Reads it only: what can be done with it is for others to say.
pub(crate) fn read(options: &Options) -> Result<Spec> {
    read_told(options).map(|read| read.value)
}

fn read_told(options: &Options) -> Result<Read<Spec>> {
    let path = options.bundle.join("config.json");
    let about = std::fs::metadata(&path).path("stat", &path)?;
    let size = about.len();
    if !about.is_file() {
        return Err(Error::invalid("config.json", "is not a regular file"));
    }
    if size > MAX_CONFIG {
        return Err(Error::invalid(
            "config.json",
            format!("{size} bytes are more than {MAX_CONFIG}"),
        ));
    }
    let text = std::fs::read(&path).path("read", &path)?;
    let read = lenient::read(&text, lenient::Holds::Configuration);
    let mut read = read.map_err(|source| Error::Parse { path, source })?;
    let warnings = make_absolute(&mut read.value);
    read.warnings.extend(warnings);
    Ok(read)
}

/// Destinations without a slash before them mean the container's root (config.md of the specification).
fn make_absolute(spec: &mut Spec) -> Vec<String> {
    let mut warnings = Vec::new();
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let destination = mount.destination();
        if destination.is_relative() && !destination.as_os_str().is_empty() {
            warnings.push(format!(
                "mount destination {} is not absolute",
                destination.display()
            ));
            mount.set_destination(Path::new("/").join(destination));
        }
    }
    warnings
}

fn check(spec: &Spec, options: &Options) -> Result<()> {
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::invalid("process", "is missing"))?;
    check_process("process", process)?;
    if spec.root().is_none() {
        return Err(Error::invalid("root", "is missing"));
    }
    if spec.linux().is_none() {
        return Err(Error::invalid("linux", "is missing"));
    }
    refuse_unsupported(spec, options)
}

/// What holds for an exec's process, too.
pub(super) fn check_process(field: &str, process: &Process) -> Result<()> {
    if process
        .args()
        .as_ref()
        .is_none_or(|args| args.first().is_none_or(String::is_empty))
    {
        return Err(Error::invalid(format!("{field}.args"), "names no program"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid(
            format!("{field}.cwd"),
            format!("{:?} is not an absolute path", process.cwd()),
        ));
    }
    if let Some(score) = process.oom_score_adj().filter(|s| !(-1000..=1000).contains(s)) {
        return Err(Error::invalid(
            format!("{field}.oomScoreAdj"),
            format!("{score} is not within -1000 to 1000"),
        ));
    }
    process::check_labels(field, process)
}

/// A protection or a setting that is asked for and can't be had must never be passed over in silence.
fn refuse_unsupported(spec: &Spec, options: &Options) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let compiles = cfg!(feature = "seccomp-compile");
    if linux.seccomp().is_some() && options.seccomp_filter.is_none() && !compiles {
        return Err(unsupported(
            "linux.seccomp",
            "a profile without its compiled filter",
        ));
    }
    if let Some(label) = mount_label(spec).filter(|_| !process::selinux_is_enabled()) {
        return Err(Error::invalid(
            "linux.mountLabel",
            format!("{label:?}: SELinux is not enabled on this host"),
        ));
    }
    Ok(())
}

fn unsupported(field: &str, what: &str) -> Error {
    Error::invalid(field, format!("{what} is not supported"))
}

/// The cgroup: that of the specification, or one named like the container.
pub(super) fn cgroup(spec: &Spec, options: &Options) -> Result<cgroup::Handle> {
    const FIELD: &str = "linux.cgroupsPath";
    let given = spec.linux().as_ref().and_then(|l| l.cgroups_path().as_deref());
    let given = given.filter(|p| !p.as_os_str().is_empty()).map(Path::to_str);
    let id = &options.id;
    let handle = match (given, options.cgroups) {
        (Some(None), _) => return Err(Error::invalid(FIELD, "is not UTF-8")),
        (Some(Some(name)), _) => cgroup::Handle::new(name)?,
        (None, Cgroups::Systemd) => cgroup::Handle::new(&format!(":{SCOPE_PREFIX}:{id}"))?,
        (None, _) => cgroup::Handle::new(id)?,
    };
    match (options.cgroups, handle.is_systemds()) {
        (Cgroups::Systemd, false) => Err(Error::invalid(
            FIELD,
            "systemd's groups are named as \"slice:prefix:name\", and this is a path",
        )),
        (Cgroups::Files, true) => Err(Error::invalid(
            FIELD,
            "\"slice:prefix:name\" is a group of systemd's, which was not asked for",
        )),
        // of a daemon's containers these are their users' words, who have none about units
        (Cgroups::Systemd, true) => match spec.annotations() {
            Some(annotations) => handle.annotated(annotations),
            None => Ok(handle),
        },
        _ => Ok(handle),
    }
}
