//! The hooks of the specification: programs that are run at certain points of a container's life, with its state on
//! their standard input.
//!
//! ```text
//!   prepare   server: prestart, createRuntime   runtime's namespaces, the init has its own and waits
//!             init:   createContainer           container's namespaces, the host's tree still in sight
//!   start     init:   startContainer            inside the container, just before its program
//!             caller: poststart                 runtime's namespaces, the program runs
//!   delete    caller: poststop                  runtime's namespaces, all is gone
//! ```
//!
//! One that fails, or takes longer than its time-out, undoes the container; a failing poststop only warns.

mod run;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Hook, Hooks, Spec};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// A configuration, and with it its hooks, isn't larger.
const MAX_PLAN: u64 = 16 << 20;

/// A kind of hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// `status` of the state that its hooks are told.
    fn status(self) -> &'static str {
        match self {
            Self::Prestart | Self::CreateRuntime | Self::CreateContainer => "creating",
            Self::StartContainer => "created",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }

    fn of(self, hooks: &Hooks) -> &[Hook] {
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }
}

/// The state of a container as hooks are told it (runtime.md of the specification).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// A container's hooks, and what they are told of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    hooks: Hooks,
    version: String,
    id: String,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
}

impl Plan {
    /// Those of a configuration; None if it has no hook at all.
    pub(crate) fn read(spec: &Spec, id: &str, bundle: &Path) -> Result<Option<Self>> {
        let Some(hooks) = spec.hooks() else {
            return Ok(None);
        };
        let all = [
            Kind::Prestart,
            Kind::CreateRuntime,
            Kind::CreateContainer,
            Kind::StartContainer,
            Kind::Poststart,
            Kind::Poststop,
        ];
        if all.iter().all(|kind| kind.of(hooks).is_empty()) {
            return Ok(None);
        }
        for kind in all {
            for (i, hook) in kind.of(hooks).iter().enumerate() {
                check(&format!("hooks.{}[{i}]", kind.name()), hook)?;
            }
        }
        Ok(Some(Self {
            hooks: hooks.clone(),
            version: spec.version().clone(),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            annotations: spec.annotations().clone().unwrap_or_default(),
        }))
    }

    /// Itself as a file, for another process to take.
    pub(crate) fn to_file(&self) -> Result<File> {
        let mut file = File::from(memfd_create("hooks", MFdFlags::MFD_CLOEXEC).call("memfd_create")?);
        let text = serde_json::to_vec(self).map_err(|_| Error::sys("encode hooks", Errno::EINVAL))?;
        file.write_all(&text).call("write hooks")?;
        file.rewind().call("rewind hooks")?;
        Ok(file)
    }

    /// What another process has made a file of.
    pub(crate) fn from_file(file: File) -> Result<Self> {
        let mut text = Vec::new();
        file.take(MAX_PLAN).read_to_end(&mut text).call("read hooks")?;
        serde_json::from_slice(&text).map_err(|_| Error::sys("decode hooks", Errno::EPROTO))
    }

    /// Whether there are any of this kind.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        !kind.of(&self.hooks).is_empty()
    }

    /// Whether there are any that run in the runtime's namespaces while the init waits.
    pub(crate) fn has_any_of_runtime(&self) -> bool {
        self.has(Kind::Prestart) || self.has(Kind::CreateRuntime)
    }

    /// Runs those of a kind in their order, until one fails. `environment` is what those that name none have; if
    /// it is empty, that of the runtime.
    pub(crate) fn run(&self, kind: Kind, pid: i32, environment: &[String]) -> Result<()> {
        let state = State {
            oci_version: &self.version,
            id: &self.id,
            status: kind.status(),
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        let state = serde_json::to_vec(&state).map_err(|_| Error::sys("encode state", Errno::EINVAL))?;
        for (index, hook) in kind.of(&self.hooks).iter().enumerate() {
            run::run(hook, &state, environment).map_err(|reason| Error::Hook {
                kind: kind.name(),
                index,
                reason,
            })?;
        }
        Ok(())
    }
}

fn check(field: &str, hook: &Hook) -> Result<()> {
    if !hook.path().is_absolute() {
        return Err(Error::invalid(
            format!("{field}.path"),
            format!("{:?} is not an absolute path", hook.path()),
        ));
    }
    if hook.timeout().is_some_and(|seconds| seconds <= 0) {
        return Err(Error::invalid(format!("{field}.timeout"), "is not above 0"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
