//! The seccomp filter of a container: from its profile, compiled.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{Capability, LinuxSeccomp, Spec};
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
            let bounding = bounding(&made.spec);
            if !is_foreign {
                return core
                    .default_filters
                    .find(&bounding, &core.paths.seccomp_cache())
                    .map(Some);
            }
            seccomp::default_profile(&bounding)
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

fn bounding(spec: &Spec) -> Vec<Capability> {
    let capabilities = spec.process().as_ref().and_then(|p| p.capabilities().as_ref());
    let bounding = capabilities.and_then(|c| c.bounding().as_ref());
    bounding.into_iter().flatten().copied().collect()
}

/// Where the compiled filters of `RuntimeDefault` lie, by capabilities. Most containers have the same few: putting the
/// profile together and hashing it for each would take longer than the rest of its spec.
#[derive(Debug, Default)]
pub struct DefaultFilters(Mutex<HashMap<u64, PathBuf>>);

impl DefaultFilters {
    fn find(&self, bounding: &[Capability], cache_dir: &Path) -> Result<PathBuf> {
        let key = bounding.iter().fold(0, |all, cap| all | 1 << *cap as u64);
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // as for every other profile, what lies on the disk decides
        let found = known().get(&key).filter(|path| path.exists()).cloned();
        if let Some(path) = found {
            return Ok(path);
        }
        let path = seccomp::compile(&seccomp::default_profile(bounding), cache_dir)?;
        known().insert(key, path.clone());
        Ok(path)
    }
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
