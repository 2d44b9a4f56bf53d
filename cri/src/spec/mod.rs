//! From a CRI config to an OCI runtime spec: pure functions over plain data.
//!
//! ```text
//!              facts.rs            gather.rs (the only part that looks anything up)
//!                 |                    |
//!   validate -> user -> args, env, cwd -> caps, rlimits -> namespaces -> mounts, devices
//!            -> resources, cgroups -> seccomp, AppArmor, SELinux, hidden paths -> annotations
//! ```
//!
//! Nothing here knows how a spec is carried out. What a sandbox itself needs is in [`sandbox`].

mod annotations;
mod args;
pub mod base;
mod binds;
pub mod caps;
pub mod cgroups;
mod devices;
mod env;
mod error;
mod facts;
pub mod gather;
pub(crate) mod hooks;
mod mounts;
mod namespaces;
pub mod resources;
pub mod rlimits;
pub mod sandbox;
mod security;
mod selinux;
pub mod signal;
#[cfg(test)]
mod testing;
mod user;
mod users;
mod validate;

use std::{path::PathBuf, sync::LazyLock};

use oci_spec::runtime::{Linux, Process, Root, Spec};

pub use error::SpecError;
pub use facts::{
    CgroupVersion, DeviceKind, HostDevice, HostFacts, ImageFacts, ImageMount, MountSource, NodeFacts,
    SandboxFacts, SandboxFiles, SourcePropagation, SpecInput, image_mount_key,
};
pub use mounts::image_volumes;
pub use sandbox::UserIds;
pub use security::{APPARMOR_DEFAULT, Seccomp};
pub use users::{UserDatabase, UserDbCache};

use crate::proto::{
    ContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxContainerUser,
};

/// Version of the OCI runtime specification that is written.
const OCI_VERSION: &str = "1.2.0";

/// A container's runtime spec, and what its maker has to know besides.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    /// The runtime spec. Its seccomp part is left to the caller; see [`ContainerSpec::seccomp`].
    pub spec: Spec,
    /// Whom the first process runs as, for ContainerStatus.
    pub user: LinuxContainerUser,
    /// Which seccomp profile applies.
    pub seccomp: Seccomp,
    /// The container's cgroup: a path below the root of each hierarchy, or `slice:prefix:name`.
    pub cgroup: String,
    /// The signal that stops it.
    pub stop_signal: i32,
    /// The limits in force, for ContainerStatus and later changes.
    pub resources: LinuxContainerResources,
    /// Mount sources that get the container's SELinux label, which is the spec's `linux.mountLabel`.
    pub relabel: Vec<PathBuf>,
}

/// Translates a container's config. Whatever can be refused is refused here rather than at the start.
///
/// # Errors
/// Each names the field and the value.
pub fn container_spec(input: &SpecInput<'_>) -> Result<ContainerSpec, SpecError> {
    validate::validate(input)?;
    let security = security_context(input.config);
    let privileged = security.privileged;
    let resources = input
        .config
        .linux
        .as_ref()
        .and_then(|l| l.resources.clone())
        .unwrap_or_default();
    let user = user::identity(security, input.image.config, input.users)?;
    let cgroup = cgroups::place(
        input.sandbox.cgroup_parent,
        input.id,
        &input.settings.cgroup_prefix,
    )?;
    let labels = selinux::labels(input, privileged)?;
    let mounts = mounts::mounts(input, privileged, security.readonly_rootfs)?;
    let process = process(input, &user, &resources, labels.as_ref())?;
    let mut linux = linux(input, &user, &resources)?;
    linux
        .set_cgroups_path(Some(PathBuf::from(&cgroup.oci)))
        .set_rootfs_propagation(mounts.root_propagation.map(str::to_owned))
        .set_mount_label(labels.and_then(|labels| labels.mount));

    let mut root = Root::default();
    root.set_path(input.rootfs.to_owned())
        .set_readonly(Some(security.readonly_rootfs));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_hostname(None)
        .set_mounts(Some(mounts.mounts))
        .set_annotations(Some(annotations::annotations(input)))
        .set_linux(Some(linux));
    Ok(ContainerSpec {
        spec,
        user: user.to_status(),
        seccomp: security::seccomp(security, privileged, input.settings)?,
        cgroup: cgroup.oci,
        stop_signal: signal::resolve(input.config, input.image.config)?,
        resources,
        relabel: mounts.relabel,
    })
}

fn process(
    input: &SpecInput<'_>,
    user: &user::Identity,
    resources: &LinuxContainerResources,
    labels: Option<&selinux::Labels>,
) -> Result<Process, SpecError> {
    let security = security_context(input.config);
    let (config, image, privileged) = (input.config, input.image.config, security.privileged);
    let (caps, node) = (security.capabilities.as_ref(), input.node);
    let limits = rlimits::rlimits(&input.settings.default_ulimits, &node.rlimit_ceilings);
    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_user(user.to_oci())
        .set_args(Some(args::args(config, image)?))
        .set_env(Some(env::env(config, image, input.sandbox.hostname, &user.home)?))
        .set_cwd(args::cwd(config, image)?)
        .set_capabilities(Some(caps::capabilities(
            caps,
            privileged,
            &node.capabilities,
            input.settings,
        )?))
        .set_rlimits(Some(limits))
        .set_no_new_privileges(Some(security.no_new_privs))
        .set_apparmor_profile(security::apparmor(
            security,
            privileged,
            node,
            &input.host.apparmor_profiles,
        )?)
        .set_oom_score_adj(Some(resources::oom_score_adj(resources, node)?))
        .set_selinux_label(labels.map(|labels| labels.process.clone()));
    Ok(process)
}

fn linux(
    input: &SpecInput<'_>,
    user: &user::Identity,
    resources: &LinuxContainerResources,
) -> Result<Linux, SpecError> {
    let privileged = security_context(input.config).privileged;
    let devices = devices::devices(input, user, privileged)?;
    let mut limits = resources::to_oci(resources, input.node)?;
    limits
        .set_devices(Some(devices.rules))
        .set_pids(input.settings.pids_limit.map(resources::pids));
    let (masked, readonly) = security::hidden_paths(input, privileged)?;
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces::namespaces(input, privileged)?))
        .set_resources(Some(limits))
        .set_devices(Some(devices.nodes))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(readonly));
    let options = namespaces::of_sandbox(input.sandbox.config);
    if let Some(userns) = sandbox::user_namespace(&options) {
        user::check_mapped(user, userns)?;
        linux
            .set_uid_mappings(Some(namespaces::id_mappings(&userns.uids)))
            .set_gid_mappings(Some(namespaces::id_mappings(&userns.gids)));
    }
    Ok(linux)
}

/// A container's security context; the default one where it has none.
fn security_context(config: &ContainerConfig) -> &LinuxContainerSecurityContext {
    static NONE: LazyLock<LinuxContainerSecurityContext> = LazyLock::new(Default::default);
    config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .unwrap_or(&NONE)
}
