//! The steps of RunPodSandbox. There is no undo beside them: whatever fails, `teardown.rs` takes down what stands.

use std::net::IpAddr;
use std::sync::Arc;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType};
use pintle_runtime::client::{Events, MonitorClient, SpawnOptions};
use pintle_runtime::protocol::{IdMapping, NamespaceKind, SandboxSetup};
use pintle_runtime::sandbox::{needs_process, setup_by_thread};

use super::{Pod, PodNetworkRecord, PodState, events, files};
use crate::core::Core;
use crate::error::{IoContext as _, Result};
use crate::inspect;
use crate::nri;
use crate::spec::sandbox::{self, SandboxPlan};
use crate::task::{blocking, on_own_thread};

/// Makes the sandbox that the record tells of, and says so in the record. The caller holds `ops`.
pub(super) async fn set_up(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<()> {
    let record = pod.cell.get();
    let handler = core.handler_of(&record)?;
    let node = core.node_for(handler);
    let plan = sandbox::plan(&record.config, &record.id, &node, &handler.settings)?;
    let dir = core.paths.pod(&pod.id);
    std::fs::create_dir_all(dir.path()).io("create folder", dir.path())?;
    let ips = begin(core, pod, plan).await?;
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

/// Makes the pod's files, namespaces and network, and starts its monitor. Namespaces are made while the monitor starts,
/// unless they take a process, which the monitor must be the parent of. Returns the pod's addresses.
async fn begin(core: &Arc<Core>, pod: &Arc<Pod>, plan: SandboxPlan) -> Result<Vec<IpAddr>> {
    let record = pod.cell.get();
    let init_cgroup = match plan.shared_pid {
        true => Some(core.sandbox_cgroup(&record)?.oci),
        false => None,
    };
    let setup = setup(plan, init_cgroup);
    let by_monitor = needs_process(&setup);
    let (dir, node_name, of_thread) = (core.paths.pod(&pod.id), core.node.hostname.clone(), setup.clone());
    let made = on_own_thread("making a pod's files and namespaces", move || {
        files::make(&dir, &record, &node_name)?;
        match by_monitor {
            true => Ok(()),
            false => Ok(setup_by_thread(dir.path(), &of_thread)?),
        }
    });
    let monitor = begin_monitor(core, pod);
    if by_monitor {
        let set_up = async { Ok(monitor.await?.setup_sandbox(setup).await?) };
        let (made, set_up) = tokio::join!(made, set_up);
        made.and(set_up)?;
        return attach_network(core, pod).await;
    }
    let connected = async {
        made.await?;
        attach_network(core, pod).await
    };
    let runs = async { Ok(monitor.await?.greet().await?) };
    let (ips, runs) = tokio::join!(connected, runs);
    runs.and(ips)
}

/// Starts the pod's monitor.
async fn begin_monitor(core: &Arc<Core>, pod: &Arc<Pod>) -> Result<MonitorClient> {
    let options = SpawnOptions {
        program: core.monitor.clone(),
        blank: core.blank.clone(),
        dir: core.paths.pod(&pod.id).path().to_owned(),
        id: pod.id.clone(),
    };
    let (monitor, events): (MonitorClient, Events) = MonitorClient::spawn(&options).await?;
    pod.set_monitor(Some(monitor.clone()));
    events::follow(core, pod, events);
    Ok(monitor)
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
