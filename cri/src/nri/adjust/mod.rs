//! What several plugins want of one container, put together in their order.
//!
//! Each plugin is shown the container as those before it want it. Entries of lists may be added and taken away; nothing may
//! be set by two (`owners.rs`). Nothing here changes anything: the result is an adjustment like a single plugin's, for
//! `apply` to carry out.

mod keyed;
pub(super) mod owners;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use keyed::Target;
use owners::{Owners, unmarked};

use super::NriError;
use crate::proto::nri::{
    Container, ContainerAdjustment, ContainerEviction, ContainerUpdate, Field, Hooks,
    LinuxContainerAdjustment, LinuxContainerUpdate, LinuxRdt, LinuxResources,
};

/// What plugins want, as far as they have been asked.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// The container that this is about, as the next plugin is to see it.
    pub(super) container: Container,
    /// What all want of it.
    pub(super) adjust: ContainerAdjustment,
    /// New limits for other containers, by id.
    pub(super) updates: BTreeMap<String, ContainerUpdate>,
    /// Containers that are to be ended.
    pub(super) evictions: Vec<ContainerEviction>,
    /// Who wants what.
    pub(super) owners: Owners,
}

impl Merge {
    /// Begins with the container as its configuration has it.
    pub(super) fn new(container: Container) -> Self {
        Self {
            container,
            ..Self::default()
        }
    }

    /// Adds one plugin's wishes for the container that is being created.
    ///
    /// # Errors
    /// [`NriError::Conflict`].
    pub(super) fn adjust(&mut self, plugin: &str, wanted: ContainerAdjustment) -> Result<(), NriError> {
        let id = self.container.id.clone();
        self.lists(&id, plugin, &wanted)?;
        self.args(&id, plugin, wanted.args)?;
        self.hooks(&id, plugin, wanted.hooks);
        for limit in wanted.rlimits {
            self.owners
                .claim(&id, Field::Rlimits, Some(&limit.r#type), plugin)?;
            self.container
                .rlimits
                .retain(|other| other.r#type != limit.r#type);
            self.container.rlimits.push(limit.clone());
            self.adjust.rlimits.push(limit);
        }
        for device in wanted.cdi_devices {
            self.owners
                .claim(&id, Field::CdiDevices, Some(&device.name), plugin)?;
            self.adjust.cdi_devices.push(device);
        }
        match wanted.linux {
            Some(linux) => self.linux(&id, plugin, linux),
            None => Ok(()),
        }
    }

    fn lists(&mut self, id: &str, plugin: &str, wanted: &ContainerAdjustment) -> Result<(), NriError> {
        let Self {
            container,
            adjust,
            owners,
            ..
        } = self;
        keyed::map(
            target(owners, id, Field::Annotations, plugin),
            wanted.annotations.clone(),
            &mut adjust.annotations,
            &mut container.annotations,
        )?;
        keyed::list(
            target(owners, id, Field::Mounts, plugin),
            wanted.mounts.clone(),
            &mut adjust.mounts,
            &mut container.mounts,
        )?;
        // The container's variables are `NAME=value`.
        let mut shown = Vec::new();
        let taken: Vec<_> = wanted.env.iter().map(|entry| unmarked(&entry.key).0).collect();
        container
            .env
            .retain(|variable| !taken.contains(&variable.split('=').next().unwrap_or_default()));
        keyed::list(
            target(owners, id, Field::Env, plugin),
            wanted.env.clone(),
            &mut adjust.env,
            &mut shown,
        )?;
        let variables = shown
            .into_iter()
            .map(|entry| format!("{}={}", entry.key, entry.value));
        container.env.extend(variables);
        Ok(())
    }

    /// A leading empty argument says that another plugin's may be replaced.
    fn args(&mut self, id: &str, plugin: &str, mut args: Vec<String>) -> Result<(), NriError> {
        if args.is_empty() {
            return Ok(());
        }
        if args[0].is_empty() {
            self.owners.clear(id, Field::Args, None, plugin);
            args.remove(0);
        }
        self.owners.claim(id, Field::Args, None, plugin)?;
        self.container.args.clone_from(&args);
        self.adjust.args = args;
        Ok(())
    }

    fn hooks(&mut self, id: &str, plugin: &str, hooks: Option<Hooks>) {
        let Some(hooks) = hooks.filter(|hooks| *hooks != Hooks::default()) else {
            return;
        };
        self.owners.join(id, Field::OciHooks, plugin);
        append(self.container.hooks.get_or_insert_default(), &hooks);
        append(self.adjust.hooks.get_or_insert_default(), &hooks);
    }

    fn linux(&mut self, id: &str, plugin: &str, wanted: LinuxContainerAdjustment) -> Result<(), NriError> {
        let shown = self.container.linux.get_or_insert_default();
        let merged = self.adjust.linux.get_or_insert_default();
        let owners = &mut self.owners;
        keyed::list(
            target(owners, id, Field::Devices, plugin),
            wanted.devices,
            &mut merged.devices,
            &mut shown.devices,
        )?;
        keyed::list(
            target(owners, id, Field::Namespace, plugin),
            wanted.namespaces,
            &mut merged.namespaces,
            &mut shown.namespaces,
        )?;
        keyed::map(
            target(owners, id, Field::Sysctl, plugin),
            wanted.sysctl,
            &mut merged.sysctl,
            &mut shown.sysctl,
        )?;
        keyed::map(
            target(owners, id, Field::LinuxNetDevices, plugin),
            wanted.net_devices,
            &mut merged.net_devices,
            &mut shown.net_devices,
        )?;
        if let Some(limits) = &wanted.resources {
            let merged = merged.resources.get_or_insert_default();
            let shown = shown.resources.get_or_insert_default();
            resources::merge(owners, id, plugin, limits, merged, shown)?;
        }
        let mut claim = |field| owners.claim(id, field, None, plugin);
        if !wanted.cgroups_path.is_empty() {
            claim(Field::CgroupsPath)?;
            shown.cgroups_path.clone_from(&wanted.cgroups_path);
            merged.cgroups_path = wanted.cgroups_path;
        }
        if wanted.oom_score_adj.is_some() {
            claim(Field::OomScoreAdj)?;
            shown.oom_score_adj = wanted.oom_score_adj;
            merged.oom_score_adj = wanted.oom_score_adj;
        }
        if wanted.io_priority.is_some() {
            claim(Field::IoPriority)?;
            shown.io_priority = wanted.io_priority;
            merged.io_priority = wanted.io_priority;
        }
        if wanted.seccomp_policy.is_some() {
            claim(Field::SeccompPolicy)?;
            shown.seccomp_policy.clone_from(&wanted.seccomp_policy);
            merged.seccomp_policy = wanted.seccomp_policy;
        }
        if wanted.scheduler.is_some() {
            claim(Field::LinuxSched)?;
            shown.scheduler.clone_from(&wanted.scheduler);
            merged.scheduler = wanted.scheduler;
        }
        if wanted.memory_policy.is_some() {
            claim(Field::MemoryPolicy)?;
            merged.memory_policy = wanted.memory_policy;
        }
        if let Some(wanted) = wanted.rdt {
            let all = merged.rdt.get_or_insert_default();
            rdt(owners, id, plugin, wanted, all)?;
            shown.rdt = Some(all.clone());
        }
        Ok(())
    }

    /// Adds one plugin's wishes for other containers, or, where limits are being changed, for the container itself.
    ///
    /// # Errors
    /// [`NriError::Conflict`], unless the plugin says that it can do without; [`NriError::UpdateInCreation`].
    pub(super) fn update(
        &mut self,
        plugin: &str,
        updates: Vec<ContainerUpdate>,
        in_creation: bool,
    ) -> Result<(), NriError> {
        for update in updates {
            if in_creation && update.container_id == self.container.id {
                return Err(NriError::UpdateInCreation {
                    plugin: plugin.to_owned(),
                });
            }
            let Some(wanted) = update.linux.as_ref().and_then(|linux| linux.resources.as_ref()) else {
                continue;
            };
            // On copies, so that a conflict that is put up with leaves nothing behind.
            let mut owners = self.owners.clone();
            let before = self.updates.get(&update.container_id);
            let mut next = before.cloned().unwrap_or_else(|| ContainerUpdate {
                linux: Some(LinuxContainerUpdate::default()),
                ignore_failure: true,
                container_id: update.container_id.clone(),
            });
            next.ignore_failure &= update.ignore_failure;
            let limits = next
                .linux
                .get_or_insert_default()
                .resources
                .get_or_insert_default();
            let mut unseen = LinuxResources::default();
            let merged = resources::merge(
                &mut owners,
                &update.container_id,
                plugin,
                wanted,
                limits,
                &mut unseen,
            );
            match merged {
                Ok(()) => {
                    self.owners = owners;
                    self.updates.insert(update.container_id, next);
                }
                Err(_) if update.ignore_failure => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The limits that the container itself is to get, laid over those that were asked for.
    pub(super) fn limits_over(&self, asked: &LinuxResources) -> LinuxResources {
        let mut limits = asked.clone();
        let update = self.updates.get(&self.container.id);
        if let Some(wanted) = update.and_then(|u| u.linux.as_ref()?.resources.as_ref()) {
            let mut unseen = LinuxResources::default();
            // One owner of everything has no conflicts.
            let fresh = &mut Owners::default();
            drop(resources::merge(fresh, "", "", wanted, &mut limits, &mut unseen));
        }
        limits
    }
}

fn target<'a>(owners: &'a mut Owners, id: &'a str, field: Field, plugin: &'a str) -> Target<'a> {
    Target {
        owners,
        id,
        field,
        plugin,
    }
}

fn append(to: &mut Hooks, from: &Hooks) {
    to.prestart.extend(from.prestart.iter().cloned());
    to.create_runtime.extend(from.create_runtime.iter().cloned());
    to.create_container.extend(from.create_container.iter().cloned());
    to.start_container.extend(from.start_container.iter().cloned());
    to.poststart.extend(from.poststart.iter().cloned());
    to.poststop.extend(from.poststop.iter().cloned());
}

fn rdt(
    owners: &mut Owners,
    id: &str,
    plugin: &str,
    wanted: LinuxRdt,
    merged: &mut LinuxRdt,
) -> Result<(), NriError> {
    const FIELDS: [Field; 3] = [Field::RdtClosId, Field::RdtSchemata, Field::RdtEnableMonitoring];
    if wanted.remove {
        for field in FIELDS {
            owners.clear(id, field, None, plugin);
        }
        *merged = LinuxRdt {
            remove: true,
            ..LinuxRdt::default()
        };
    }
    let mut claim = |field| owners.claim(id, field, None, plugin);
    if wanted.clos_id.is_some() {
        claim(Field::RdtClosId)?;
        merged.clos_id = wanted.clos_id;
    }
    if wanted.schemata.is_some() {
        claim(Field::RdtSchemata)?;
        merged.schemata = wanted.schemata;
    }
    if wanted.enable_monitoring.is_some() {
        claim(Field::RdtEnableMonitoring)?;
        merged.enable_monitoring = wanted.enable_monitoring;
    }
    Ok(())
}
