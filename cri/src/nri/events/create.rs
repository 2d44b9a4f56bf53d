//! CreateContainer: what plugins want to be different about a container that is being made.

use std::sync::Arc;

use super::begin;
use crate::container::Container;
use crate::core::Core;
use crate::error::Result;
use crate::nri::adjust::Merge;
use crate::nri::apply::{self, Rest};
use crate::nri::plugin::Plugin;
use crate::nri::validator::{Case, judge};
use crate::nri::{NriError, convert, sources, updates};
use crate::proto::nri::{
    self, ContainerAdjustment, CreateContainerRequest, CreateContainerResponse, Event, PluginInstance,
    ValidateContainerAdjustmentRequest, ValidateContainerAdjustmentResponse,
};
use crate::spec::{ContainerSpec, resources};

/// The built-in validator's name in messages.
const BUILT_IN: &str = "00-default-validator";

/// Asks the plugins, and changes the spec as they want it. What is left is for the caller.
///
/// # Errors
/// A plugin's or a validator's refusal, a conflict between plugins, or a wish that can't be granted.
pub(crate) async fn create_container(
    core: &Arc<Core>,
    container: &Container,
    made: &mut ContainerSpec,
) -> Result<Rest> {
    let config = &core.nri.config;
    let set = core.nri.registry.announce(&container.announced);
    if set.is_none() && !config.default_validator.enable {
        return Ok(Rest::default());
    }
    let plugins = set.map(|set| set.plugins.clone()).unwrap_or_default();
    let record = container.cell.get();
    let original = convert::container(&record, Some(&made.spec));
    let pod = sources::pod_of(core, &container.pod_id);
    let mut merge = Merge::new(original.clone());
    let mut asked = Vec::new();
    for plugin in &plugins {
        let Some(mut turn) = plugin.turn().await else {
            continue;
        };
        if !begin(&mut turn.known, &container.id) {
            continue;
        }
        let request = CreateContainerRequest {
            pod: Some(pod.clone()),
            container: Some(merge.container.clone()),
        };
        let answer: Option<CreateContainerResponse> = turn.ask(Event::CreateContainer, &request).await?;
        asked.push(plugin.name.as_str());
        let Some(answer) = answer else { continue };
        merge.adjust(&plugin.name, answer.adjust.unwrap_or_default())?;
        merge.update(&plugin.name, answer.update, true)?;
        merge.evictions.extend(answer.evict);
    }
    validate(core, &plugins, &asked, &pod, &original, &merge).await?;
    let rest = carry_out(made, &container.id, merge.adjust)?;
    let others = merge.updates.into_values().collect();
    updates::of_others(core, "(all)", others, &merge.evictions).await;
    Ok(rest)
}

async fn validate(
    core: &Core,
    plugins: &[Arc<Plugin>],
    asked: &[&str],
    pod: &nri::PodSandbox,
    original: &nri::Container,
    merge: &Merge,
) -> Result<(), NriError> {
    let rejected = |plugin: &str, reason: String| NriError::Rejected {
        plugin: plugin.to_owned(),
        reason,
    };
    let case = Case {
        pod,
        container: original,
        owners: &merge.owners,
        plugins: asked,
    };
    judge(&core.nri.config.default_validator, &case).map_err(|reason| rejected(BUILT_IN, reason))?;
    let event = Event::ValidateContainerAdjustment;
    if !plugins.iter().any(|plugin| plugin.wants(event)) {
        return Ok(());
    }
    let request = ValidateContainerAdjustmentRequest {
        pod: Some(pod.clone()),
        container: Some(original.clone()),
        adjust: Some(merge.adjust.clone()),
        update: merge.updates.values().cloned().collect(),
        owners: Some(merge.owners.0.clone()),
        plugins: asked.iter().map(|name| instance(name)).collect(),
    };
    for plugin in plugins.iter().filter(|plugin| plugin.wants(event)) {
        let answer: Option<ValidateContainerAdjustmentResponse> = match plugin.turn().await {
            Some(turn) => turn.ask(event, &request).await?,
            None => None,
        };
        // One that has no such method has nothing against it.
        if answer.is_none() && plugin.is_gone() && plugin.is_validator() {
            return Err(rejected(&plugin.name, "it gave no answer".to_owned()));
        }
        let answer = answer.unwrap_or_default();
        if answer.reject {
            return Err(rejected(&plugin.name, answer.reason));
        }
    }
    Ok(())
}

fn instance(name: &str) -> PluginInstance {
    let (index, base) = name.split_once('-').unwrap_or(("", name));
    PluginInstance {
        name: base.to_owned(),
        index: index.to_owned(),
    }
}

fn carry_out(made: &mut ContainerSpec, id: &str, adjust: ContainerAdjustment) -> Result<Rest, NriError> {
    let limits = adjust
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref())
        .map(updates::to_cri);
    let rest = apply::apply(made, id, adjust)?;
    if let Some(limits) = limits {
        // The base of later changes, and what ContainerStatus shows.
        made.resources = resources::update(&made.resources, &limits);
    }
    Ok(rest)
}
