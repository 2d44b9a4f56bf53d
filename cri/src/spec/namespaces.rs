//! Which namespaces a container joins, and which are its own (namespaces(7)).

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType as Type};

use super::{CgroupVersion, SpecError, SpecInput, sandbox};
use crate::proto::{IdMapping, NamespaceMode as Mode, NamespaceOption, PodSandboxConfig};

/// A sandbox's namespace options; the zero value, which shares everything in the pod, where there are none.
pub(super) fn of_sandbox(config: &PodSandboxConfig) -> NamespaceOption {
    let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
    security
        .and_then(|s| s.namespace_options.clone())
        .unwrap_or_default()
}

/// The container's namespaces. Network, IPC, UTS and user are always the sandbox's; a container can't leave them.
pub(super) fn namespaces(input: &SpecInput<'_>, privileged: bool) -> Result<Vec<LinuxNamespace>, SpecError> {
    let sandbox = of_sandbox(input.sandbox.config);
    check_user(input, &sandbox)?;
    let pinned = |kind: &str| Some(input.sandbox.ns_dir.join(kind));
    let mut all = vec![namespace(Type::Mount, None)];
    if let Some(pid) = pid(input, &sandbox)? {
        all.push(pid);
    }
    if sandbox.network() != Mode::Node {
        all.push(namespace(Type::Network, pinned("net")));
        all.push(namespace(Type::Uts, pinned("uts")));
    }
    if sandbox.ipc() != Mode::Node {
        all.push(namespace(Type::Ipc, pinned("ipc")));
    }
    if sandbox::user_namespace(&sandbox).is_some() {
        all.push(namespace(Type::User, pinned("user")));
    }
    if input.node.cgroup_version == CgroupVersion::V2 && !privileged {
        all.push(namespace(Type::Cgroup, None));
    }
    Ok(all)
}

/// None is the host's. Containers that say nothing follow the sandbox.
fn pid(input: &SpecInput<'_>, sandbox: &NamespaceOption) -> Result<Option<LinuxNamespace>, SpecError> {
    const FIELD: &str = "namespace_options.pid";
    let security = input
        .config
        .linux
        .as_ref()
        .and_then(|l| l.security_context.as_ref());
    let own = security.and_then(|s| s.namespace_options.as_ref());
    let value = own.unwrap_or(sandbox).pid;
    let mode = Mode::try_from(value).map_err(|_| SpecError::invalid(FIELD, value, "no such mode"))?;
    let not_permitted = |reason| Err(SpecError::NotPermitted { field: FIELD, reason });
    match mode {
        Mode::Container => Ok(Some(namespace(Type::Pid, None))),
        Mode::Pod if sandbox.pid() == Mode::Pod => {
            Ok(Some(namespace(Type::Pid, Some(input.sandbox.ns_dir.join("pid")))))
        }
        Mode::Pod => not_permitted("the sandbox has no PID namespace of its own to share"),
        Mode::Node if sandbox.pid() == Mode::Node => Ok(None),
        Mode::Node => not_permitted("the sandbox doesn't use the host's PID namespace"),
        Mode::Target => match input.host.target_pid {
            Some(pid) => Ok(Some(namespace(
                Type::Pid,
                Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))),
            ))),
            None => {
                let target = own.map(|o| o.target_id.as_str()).unwrap_or_default();
                Err(SpecError::invalid(
                    "namespace_options.target_id",
                    target,
                    "not a running container of this sandbox",
                ))
            }
        },
    }
}

/// A container that says something about its user namespace must say what the sandbox says.
fn check_user(input: &SpecInput<'_>, sandbox: &NamespaceOption) -> Result<(), SpecError> {
    let security = input
        .config
        .linux
        .as_ref()
        .and_then(|l| l.security_context.as_ref());
    let own = security
        .and_then(|s| s.namespace_options.as_ref())
        .and_then(|o| o.userns_options.as_ref());
    let Some(own) = own else { return Ok(()) };
    sandbox::validate_user_namespace(own)?;
    let same = match sandbox::user_namespace(sandbox) {
        Some(options) => options == own,
        None => own.mode() == Mode::Node,
    };
    if same {
        return Ok(());
    }
    Err(SpecError::NotPermitted {
        field: "namespace_options.userns_options",
        reason: "they differ from the sandbox's",
    })
}

/// CRI's id mappings as the runtime spec has them.
pub(super) fn id_mappings(mappings: &[IdMapping]) -> Vec<LinuxIdMapping> {
    let convert = |mapping: &IdMapping| {
        let mapped = LinuxIdMappingBuilder::default()
            .host_id(mapping.host_id)
            .container_id(mapping.container_id)
            .size(mapping.length);
        // Every field has a default: this can't fail.
        mapped.build().unwrap_or_default()
    };
    mappings.iter().map(convert).collect()
}

fn namespace(kind: Type, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}
