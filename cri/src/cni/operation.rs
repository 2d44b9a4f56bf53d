//! One operation: a command carried out by the plugins of a network, in its order.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::conf::{Network, Plugin};
use super::error::{CniError, Result};
use super::invoke::{self, Invocation};
use super::pod::Pod;

/// A network, a pod, and how to run plugins.
pub(super) struct Operation<'a> {
    pub(super) network: &'a Network,
    /// The default one for operations that are of no pod.
    pub(super) pod: &'a Pod,
    pub(super) bin_dirs: &'a [PathBuf],
    pub(super) limit: Duration,
}

impl Operation<'_> {
    /// ADD by every plugin; gives the last one's result.
    pub(super) async fn add(&self) -> Result<Value> {
        let mut previous = None;
        for plugin in &self.network.plugins {
            let result = self.run("ADD", plugin, previous.as_ref()).await?;
            if !result.is_object() {
                let reason = "no result on stdout".into();
                return Err(CniError::BadResult {
                    plugin: plugin.kind.clone(),
                    reason,
                });
            }
            previous = Some(result);
        }
        Ok(previous.unwrap_or(Value::Null))
    }

    /// DEL by every plugin, the last first; stops at the first failure.
    pub(super) async fn del(&self, result: Option<&Value>) -> Result<()> {
        let result = result.filter(|_| self.network.version.has_check());
        for plugin in self.network.plugins.iter().rev() {
            self.run("DEL", plugin, result).await?;
        }
        Ok(())
    }

    pub(super) async fn check(&self, result: &Value) -> Result<()> {
        for plugin in &self.network.plugins {
            self.run("CHECK", plugin, Some(result)).await?;
        }
        Ok(())
    }

    pub(super) async fn status(&self) -> Result<()> {
        for plugin in &self.network.plugins {
            self.run("STATUS", plugin, None).await?;
        }
        Ok(())
    }

    /// GC by every plugin; all of them, whatever fails.
    pub(super) async fn gc(&self, valid: &[Value]) -> Result<()> {
        let mut first = None;
        for plugin in &self.network.plugins {
            let mut conf = self.conf(plugin, None);
            conf.insert("cni.dev/valid-attachments".into(), json!(valid));
            // The name that the specification has used in between.
            conf.insert("cni.dev/attachments".into(), json!(valid));
            let outcome = self.invoke("GC", plugin, conf).await;
            first = first.or(outcome.err());
        }
        first.map_or(Ok(()), Err)
    }

    async fn run(&self, command: &'static str, plugin: &Plugin, previous: Option<&Value>) -> Result<Value> {
        self.invoke(command, plugin, self.conf(plugin, previous)).await
    }

    /// The plugin's configuration with what the specification adds to it.
    fn conf(&self, plugin: &Plugin, previous: Option<&Value>) -> Map<String, Value> {
        let mut conf = plugin.conf.clone();
        conf.insert("name".into(), json!(self.network.name));
        conf.insert("cniVersion".into(), json!(self.network.version.to_string()));
        conf.remove("capabilities");
        conf.remove("runtimeConfig");
        let runtime_config = self.pod.runtime_config(plugin);
        if !runtime_config.is_empty() {
            conf.insert("runtimeConfig".into(), Value::Object(runtime_config));
        }
        conf.remove("prevResult");
        if let Some(previous) = previous {
            conf.insert("prevResult".into(), previous.clone());
        }
        conf
    }

    async fn invoke(
        &self,
        command: &'static str,
        plugin: &Plugin,
        conf: Map<String, Value>,
    ) -> Result<Value> {
        let program = invoke::find(&plugin.kind, self.bin_dirs)?;
        let mut env = vec![("CNI_PATH", invoke::join(self.bin_dirs))];
        if !self.pod.id.is_empty() {
            let netns = self
                .pod
                .netns
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned());
            env.push(("CNI_CONTAINERID", self.pod.id.clone()));
            env.push(("CNI_NETNS", netns.unwrap_or_default()));
            env.push(("CNI_IFNAME", self.pod.interface().to_owned()));
            env.push(("CNI_ARGS", self.pod.args()));
        }
        let stdin = Value::Object(conf);
        Invocation {
            plugin: &plugin.kind,
            command,
            env,
            stdin,
            limit: self.limit,
        }
        .run(&program)
        .await
    }
}
