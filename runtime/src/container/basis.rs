//! What a container is made from, read from its bundle and checked.

use oci_spec::runtime::Spec;

use super::{Options, check, stage};
use crate::cgroup;
use crate::error::Result;
use crate::namespace::Plan;
use crate::protocol::Overlay;

/// A checked configuration.
pub(crate) struct Basis {
    pub(crate) spec: Spec,
    pub(crate) plan: Plan,
    pub(crate) cgroup: cgroup::Handle,
    /// The root, with the label of the container's mounts.
    pub(crate) overlay: Option<Overlay>,
}

impl Basis {
    /// Reads the bundle's config.json.
    pub(crate) fn read(options: &Options) -> Result<Self> {
        let spec = check::load(options)?.value;
        Ok(Self {
            plan: Plan::read(&spec)?,
            cgroup: check::cgroup(&spec, options)?,
            overlay: stage::labelled(&spec, options).overlay,
            spec,
        })
    }
}
