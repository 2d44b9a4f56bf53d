//! Status: is the node ready, and what can its runtime handlers do. Called every few seconds: all of it from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::proto::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeStatus, StatusRequest, StatusResponse,
};

pub(super) async fn status(core: &Arc<Core>, request: StatusRequest) -> Result<StatusResponse> {
    let network = match core.network.status().await {
        Ok(()) => condition("NetworkReady", None),
        Err(error) => condition("NetworkReady", Some(("NetworkPluginNotReady", error.to_string()))),
    };
    Ok(StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![condition("RuntimeReady", None), network],
        }),
        info: if request.verbose {
            info(core)
        } else {
            BTreeMap::new()
        },
        runtime_handlers: handlers(core),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: core.node.user_namespaces,
            mount_options: true,
        }),
    })
}

fn condition(kind: &str, failure: Option<(&str, String)>) -> RuntimeCondition {
    let status = failure.is_none();
    let (reason, message) = failure.unwrap_or_default();
    RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
    }
}

/// One entry a handler, and one without a name for the default handler.
fn handlers(core: &Core) -> Vec<RuntimeHandler> {
    let all = core.config.handlers();
    let named = all.iter().map(|handler| (handler.name.as_str(), handler));
    let default = all.first().map(|handler| ("", handler));
    default
        .into_iter()
        .chain(named)
        .map(|(name, handler)| RuntimeHandler {
            name: name.to_owned(),
            features: Some(core.handler_features(handler)),
        })
        .collect()
}

fn info(core: &Core) -> BTreeMap<String, String> {
    let config = serde_json::json!({
        // Test suites try on the parent of this folder what the file system of root file systems can do.
        "stateDir": core.paths.root(),
        "runDir": core.paths.state(),
        "rootDir": core.paths.root(),
        "cgroupDriver": core.node.cgroup_driver.as_str_name(),
        "runtimeHandlers": core.config.handlers().iter().map(|handler| &handler.name).collect::<Vec<_>>(),
    });
    BTreeMap::from([("config".to_owned(), config.to_string())])
}
