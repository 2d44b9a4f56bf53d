//! The steps of RunPodSandbox. There is no undo beside them: whatever fails, `teardown.rs` takes down what stands.

use std::net::IpAddr;
use std::sync::Arc;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType};
use pintle_runtime::client::{Events, MonitorClient, SpawnOptions};
use pintle_runtime::protocol::{IdMapping, NamespaceKind, SandboxSetup};

use super::{Pod, PodNetworkRecord, PodState, events, files};
use crate::core::Core;
use crate::error::{IoContext as _, Result};
use crate::inspect;
use crate::nri;
use crate::spec::sandbox::{self, SandboxPlan};
use crate::task::blocking;

/// Makes the sandbox that the record tells of, and says so in the record. The caller holds `ops`.
pub(super) async fn set_up(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<()> {
    let record = pod.cell.get();
    let handler = core.handler_of(&record)?;
    let node = core.node_for(handler);
    let plan = sandbox::plan(&record.config, &record.id, &node, &handler.settings)?;
    let dir = core.paths.pod(&pod.id);
    std::fs::create_dir_all(dir.path()).io("create folder", dir.path())?;
    let (make, of, node_name) = (dir.clone(), Arc::clone(&record), core.node.hostname.clone());
    let files = blocking("making a pod's files", move || {
        files::make(&make, &of, &node_name)
    });
    let (files, monitor) = tokio::join!(files, begin_monitor(core, pod, plan));
    files?;
    monitor?;
    let ips = attach_network(core, pod).await?;
    if !record.cgroup_prefix.is_empty() {
        let (at, of) = (Arc::clone(core), Arc::clone(pod));
        blocking("making a pod's entry", move || inspect::make_entry(&at, &of)).await?;
    }
    nri::run_pod(core, pod, &ips).await?;
    pod.cell.update(|record| {
        record.ips = ips;
        record.enter(PodState::Ready)
    })
}

/// Starts the pod's monitor, which makes the namespaces.
async fn begin_monitor(core: &Arc<Core>, pod: &Arc<Pod>, plan: SandboxPlan) -> Result<()> {
    let record = pod.cell.get();
    let options = SpawnOptions {
        program: core.monitor.clone(),
        dir: core.paths.pod(&pod.id).path().to_owned(),
        id: pod.id.clone(),
    };
    let (monitor, events): (MonitorClient, Events) = MonitorClient::spawn(&options).await?;
    pod.set_monitor(Some(monitor.clone()));
    events::follow(core, pod, events);
    let init_cgroup = match plan.shared_pid {
        true => Some(core.sandbox_cgroup(&record)?.oci),
        false => None,
    };
    monitor.setup_sandbox(setup(plan, init_cgroup)).await?;
    Ok(())
}

fn setup(plan: SandboxPlan, init_cgroup: Option<String>) -> SandboxSetup {
    SandboxSetup {
        namespaces: plan.namespaces.into_iter().filter_map(kind).collect(),
        uid_mappings: plan.uid_mappings.iter().map(mapping).collect(),
        gid_mappings: plan.gid_mappings.iter().map(mapping).collect(),
        hostname: plan.hostname,
        sysctls: plan.sysctls,
        shared_pid: plan.shared_pid,
        init_cgroup,
    }
}

/// The kinds that a sandbox can own; the PID namespace comes with its init.
fn kind(of: LinuxNamespaceType) -> Option<NamespaceKind> {
    match of {
        LinuxNamespaceType::User => Some(NamespaceKind::User),
        LinuxNamespaceType::Network => Some(NamespaceKind::Net),
        LinuxNamespaceType::Uts => Some(NamespaceKind::Uts),
        LinuxNamespaceType::Ipc => Some(NamespaceKind::Ipc),
        LinuxNamespaceType::Mount
        | LinuxNamespaceType::Cgroup
        | LinuxNamespaceType::Pid
        | LinuxNamespaceType::Time => None,
    }
}

fn mapping(of: &LinuxIdMapping) -> IdMapping {
    IdMapping {
        container_id: of.container_id(),
        host_id: of.host_id(),
        size: of.size(),
    }
}

/// Connects the pod to its network. Returns its addresses, the primary one first; none on the host's network.
async fn attach_network(core: &Arc<Core>, pod: &Pod) -> Result<Vec<IpAddr>> {
    let record = pod.cell.get();
    if record.network == PodNetworkRecord::None {
        return Ok(Vec::new());
    }
    core.network.attach(&record, &core.paths.pod(&pod.id)).await
}
