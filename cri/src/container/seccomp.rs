//! The seccomp filter of a container: from its profile, compiled.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxSeccomp;
use pintle_runtime::seccomp;

use crate::core::Core;
use crate::error::{Error, IoContext as _, Result};
use crate::spec::{ContainerSpec, Seccomp};

/// The container's compiled filter, if it has one. Compiled once for all containers of the same profile. Another runtime
/// compiles for itself: it has the profile in the spec.
pub(super) fn filter(core: &Core, made: &mut ContainerSpec, is_foreign: bool) -> Result<Option<PathBuf>> {
    // A plugin's goes before that of the configuration.
    let given = made
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    if let Some(profile) = given {
        return match is_foreign {
            true => Ok(None),
            false => Ok(Some(seccomp::compile(profile, &core.paths.seccomp_cache())?)),
        };
    }
    let profile = match &made.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::RuntimeDefault => {
            let capabilities = made
                .spec
                .process()
                .as_ref()
                .and_then(|p| p.capabilities().as_ref());
            let bounding = capabilities
                .and_then(|c| c.bounding().clone())
                .unwrap_or_default();
            seccomp::default_profile(&bounding.into_iter().collect::<Vec<_>>())
        }
        Seccomp::Localhost(path) => localhost_profile(path)?,
    };
    if is_foreign {
        let linux = made.spec.linux_mut().get_or_insert_default();
        linux.set_seccomp(Some(profile));
        return Ok(None);
    }
    Ok(Some(seccomp::compile(&profile, &core.paths.seccomp_cache())?))
}

fn localhost_profile(path: &Path) -> Result<LinuxSeccomp> {
    let text = fs::read(path).io("read seccomp profile", path)?;
    serde_json::from_slice(&text).map_err(|e| {
        Error::invalid(
            "seccomp.localhost_ref",
            format!("{} is no seccomp profile: {e}", path.display()),
        )
    })
}
