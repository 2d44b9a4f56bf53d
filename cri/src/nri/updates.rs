//! Limits of containers that live, changed because plugins want it, and containers ended for the same reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::NriError;
use crate::container;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::proto::nri::{
    ContainerEviction, ContainerUpdate, LinuxResources, UpdateContainersRequest, UpdateContainersResponse,
};
use crate::proto::{HugepageLimit, LinuxContainerResources};

/// Updates and evictions in one call; more is a mistake.
const MOST: usize = 10_000;

/// What a plugin wants unasked. The answer names the updates that could not be made.
pub(super) async fn unasked(
    core: &Arc<Core>,
    plugin: &str,
    wanted: UpdateContainersRequest,
) -> UpdateContainersResponse {
    if wanted.update.len() + wanted.evict.len() > MOST {
        tracing::warn!(plugin, "an NRI plugin asked for too much at once");
        return UpdateContainersResponse {
            failed: wanted.update,
        };
    }
    let failed = of_others(core, plugin, wanted.update, &wanted.evict).await;
    UpdateContainersResponse { failed }
}

/// Changes limits of containers, and ends containers. Returns the updates that failed; each is logged.
pub(super) async fn of_others(
    core: &Arc<Core>,
    plugin: &str,
    updates: Vec<ContainerUpdate>,
    evictions: &[ContainerEviction],
) -> Vec<ContainerUpdate> {
    for eviction in evictions {
        evict(core, plugin, eviction).await;
    }
    let mut failed = Vec::new();
    for update in updates {
        match apply(core, &update).await {
            Ok(()) => {}
            Err(error) if update.ignore_failure => {
                tracing::debug!(plugin, %error, "an update that may fail has failed");
            }
            Err(error) => {
                tracing::warn!(plugin, %error, "limits could not be changed for an NRI plugin");
                failed.push(update);
            }
        }
    }
    failed
}

async fn evict(core: &Arc<Core>, plugin: &str, eviction: &ContainerEviction) {
    let id = &eviction.container_id;
    let Some(found) = core.containers.get(id).filter(|found| found.visible()) else {
        tracing::debug!(plugin, container = id, "evicted already");
        return;
    };
    tracing::info!(
        plugin,
        container = id,
        reason = eviction.reason,
        "evicted by an NRI plugin"
    );
    if let Err(error) = container::stop(core, &found, Duration::ZERO).await {
        tracing::warn!(plugin, container = id, %error, "not evicted");
    }
}

async fn apply(core: &Arc<Core>, update: &ContainerUpdate) -> Result<()> {
    let id = &update.container_id;
    let found = core.containers.get(id).filter(|found| found.visible());
    let found = found.ok_or_else(|| NriError::NoContainer(id.clone()))?;
    let Some(limits) = update.linux.as_ref().and_then(|linux| linux.resources.clone()) else {
        return Ok(());
    };
    refuse_classes(&limits)?;
    let patience = core.nri.config.plugin_request_timeout;
    // Whoever holds the container may wait for this very plugin.
    tokio::time::timeout(patience, container::update_limits(core, &found, limits))
        .await
        .map_err(|_| Error::from(NriError::Busy(id.clone())))?
}

/// Classes are given to a container before it is made.
pub(super) fn refuse_classes(limits: &LinuxResources) -> Result<(), NriError> {
    if limits.blockio_class.is_some() || limits.rdt_class.is_some() {
        let reason = "the class of a living container can't be changed";
        return Err(NriError::adjustment("resources", reason));
    }
    Ok(())
}

/// What CRI has words for, with 0 for what isn't said: as a change of CRI's limits.
pub(crate) fn to_cri(limits: &LinuxResources) -> LinuxContainerResources {
    let cpu = limits.cpu.clone().unwrap_or_default();
    let memory = limits.memory.unwrap_or_default();
    let number = |value: Option<u64>| i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX);
    LinuxContainerResources {
        cpu_period: number(cpu.period.map(|v| v.value)),
        cpu_quota: cpu.quota.map_or(0, |v| v.value),
        cpu_shares: number(cpu.shares.map(|v| v.value)),
        memory_limit_in_bytes: memory.limit.map_or(0, |v| v.value),
        oom_score_adj: 0,
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        hugepage_limits: limits
            .hugepage_limits
            .iter()
            .map(|limit| HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: limits.unified.clone(),
        memory_swap_limit_in_bytes: memory.swap.map_or(0, |v| v.value),
    }
}

/// The updates of all containers but one, in the order of their ids.
pub(super) fn without(updates: BTreeMap<String, ContainerUpdate>, id: &str) -> Vec<ContainerUpdate> {
    updates
        .into_iter()
        .filter(|(other, _)| other != id)
        .map(|(_, update)| update)
        .collect()
}
