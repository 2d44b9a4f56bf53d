//! The CNI client: runs the plugins that `/etc/cni/net.d` names.
//!
//! ```text
//! add:  cache <- configuration and pod;  plugins ADD, each with the result of the one before;  cache <- result
//!       on failure: plugins DEL backwards; if that succeeds too, the cache entry goes
//! del:  plugins DEL backwards, with the configuration, pod and result of the cache; the cache entry goes
//! ```
//!
//! Operations of one sandbox come one after another, those of different sandboxes side by side. An operation runs to
//! its end even if nobody waits for it any more; each plugin has a time limit. This module knows nothing of the rest
//! of the daemon.

mod bandwidth;
mod cache;
mod conf;
mod error;
mod invoke;
mod keyed;
mod operation;
mod pod;
mod result;
mod version;

use std::collections::HashSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Mutex, Semaphore};

pub use self::bandwidth::{BURST_BITS, Limits};
use self::cache::{Cache, Entry};
use self::conf::{ConfDir, Network};
pub use self::error::{CniError, Result};
use self::keyed::Keyed;
use self::operation::Operation;
pub use self::pod::{Dns, Pod, Port};
pub use self::result::CniResult;

/// How long a plugin may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a plugin may take to say whether it is ready.
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// How long a good answer to STATUS counts.
const STATUS_AGE: Duration = Duration::from_secs(10);
/// Sandboxes worked on at once: plugins wait for one another's locks, and processes cost memory.
const PARALLEL: usize = 16;

/// A CNI client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cni(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    conf: ConfDir,
    shared: Arc<Shared>,
    /// The network that said it is ready, and when.
    ready: Mutex<Option<(Arc<Network>, Instant)>>,
}

/// What clients of several networks have in common: a pod that one attaches another may detach.
#[derive(Debug)]
struct Shared {
    bin_dirs: Vec<PathBuf>,
    cache: Cache,
    limit: Duration,
    slots: Semaphore,
    pods: Keyed,
}

impl Cni {
    /// A client that reads networks from `conf_dir`, finds plugins in `bin_dirs`, the first that has one, and keeps
    /// what it did in `cache_dir`. None of them need exist yet.
    #[must_use]
    pub fn new(conf_dir: PathBuf, bin_dirs: Vec<PathBuf>, cache_dir: PathBuf) -> Cni {
        Cni::with_limit(conf_dir, bin_dirs, cache_dir, LIMIT)
    }

    /// Like [`Cni::new`], with another time limit for plugins.
    #[must_use]
    pub fn with_limit(conf_dir: PathBuf, bin_dirs: Vec<PathBuf>, cache_dir: PathBuf, limit: Duration) -> Cni {
        let shared = Shared {
            bin_dirs,
            cache: Cache::new(cache_dir),
            limit,
            slots: Semaphore::new(PARALLEL),
            pods: Keyed::default(),
        };
        Cni::of(conf_dir, Arc::new(shared))
    }

    fn of(conf_dir: PathBuf, shared: Arc<Shared>) -> Cni {
        Cni(Arc::new(Inner {
            conf: ConfDir::new(conf_dir),
            shared,
            ready: Mutex::new(None),
        }))
    }

    /// A client like this one that reads networks from another folder. Either can detach what the other has attached.
    #[must_use]
    pub fn beside(&self, conf_dir: PathBuf) -> Cni {
        Cni::of(conf_dir, Arc::clone(&self.0.shared))
    }

    /// Whether the configuration folder holds anything, valid or not: a node whose network is meant to be
    /// CNI's isn't to get another one only because a file is just being written.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        match self.0.conf.network() {
            Err(CniError::NotConfigured { skipped, .. }) => !skipped.is_empty(),
            _ => true,
        }
    }

    /// The name of the network that pods would be attached to. Reads the folder, and those files only that have
    /// changed.
    ///
    /// # Errors
    /// [`CniError::NotConfigured`], or [`CniError::Io`] if the folder can't be read.
    pub fn network(&self) -> Result<String> {
        Ok(self.0.conf.network()?.name.clone())
    }

    /// Whether pods can be attached: a valid network is configured, its plugins are there, and (from version 1.1.0
    /// on) say so themselves. Cheap: plugins are asked again only after some seconds.
    ///
    /// # Errors
    /// Why not.
    pub async fn status(&self) -> Result<()> {
        let network = self.0.conf.network()?;
        for plugin in &network.plugins {
            invoke::find(&plugin.kind, &self.0.shared.bin_dirs)?;
        }
        if !network.version.has_status() {
            return Ok(());
        }
        let mut ready = self.0.ready.lock().await;
        if let Some((known, at)) = ready.as_ref()
            && *known == network
            && at.elapsed() < STATUS_AGE
        {
            return Ok(());
        }
        *ready = None;
        let pod = Pod::default();
        self.operation(&network, &pod, STATUS_LIMIT).status().await?;
        *ready = Some((network, Instant::now()));
        Ok(())
    }

    /// Attaches a pod to the configured network.
    ///
    /// On failure the plugins are told to take back what they did; if that fails too, it is tried again by
    /// [`Cni::del`] and [`Cni::gc`].
    ///
    /// # Errors
    /// [`CniError::NotConfigured`], [`CniError::Invalid`], [`CniError::NoAddress`], or what a plugin said.
    pub async fn add(&self, pod: &Pod) -> Result<CniResult> {
        pod.validate()?;
        let network = self.0.conf.network()?;
        let (cni, pod) = (self.clone(), pod.clone());
        detached("ADD", async move { cni.add_now(&network, pod).await }).await
    }

    async fn add_now(&self, network: &Network, pod: Pod) -> Result<CniResult> {
        let _turn = self.0.shared.pods.lock(&pod.id).await;
        let _slot = self
            .0
            .shared
            .slots
            .acquire()
            .await
            .map_err(|_| CniError::Interrupted { command: "ADD" })?;
        let mut entry = Entry {
            pod,
            network: network.source.clone(),
            result: None,
        };
        self.0.shared.cache.store(&entry)?;
        let operation = self.operation(network, &entry.pod, self.0.shared.limit);
        let outcome = match operation.add().await {
            Ok(raw) => CniResult::parse(raw, &network.name, entry.pod.interface()),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(result) => {
                entry.result = Some(result.raw.clone());
                self.0.shared.cache.store(&entry)?;
                Ok(result)
            }
            Err(error) => {
                match self
                    .operation(network, &entry.pod, self.0.shared.limit)
                    .del(None)
                    .await
                {
                    Ok(()) => self.0.shared.cache.remove(&entry.pod.id, entry.pod.interface())?,
                    Err(undo) => {
                        tracing::warn!(sandbox = entry.pod.id, error = %undo, "undoing a failed CNI ADD");
                    }
                }
                Err(error)
            }
        }
    }

    /// Detaches a pod, with the configuration that it was attached with. Succeeds for a pod that was never attached.
    /// `pod.netns` is `None` when the namespace is gone; plugins then free what they keep elsewhere.
    ///
    /// # Errors
    /// What a plugin said; it can be tried again.
    pub async fn del(&self, pod: &Pod) -> Result<()> {
        pod.validate()?;
        let (cni, pod) = (self.clone(), pod.clone());
        detached("DEL", async move { cni.del_now(pod).await }).await
    }

    async fn del_now(&self, mut pod: Pod) -> Result<()> {
        let _turn = self.0.shared.pods.lock(&pod.id).await;
        let _slot = self
            .0
            .shared
            .slots
            .acquire()
            .await
            .map_err(|_| CniError::Interrupted { command: "DEL" })?;
        let Some(entry) = self.0.shared.cache.load(&pod.id, pod.interface())? else {
            return Ok(());
        };
        let network = Network::parse(entry.network).map_err(|reason| CniError::BadResult {
            plugin: "cache".into(),
            reason,
        })?;
        // What the pod asked for then, and the namespace as it is now.
        let netns = pod.netns.take().filter(|path| path.exists());
        let pod = Pod { netns, ..entry.pod };
        self.operation(&network, &pod, self.0.shared.limit)
            .del(entry.result.as_ref())
            .await?;
        self.0.shared.cache.remove(&pod.id, pod.interface())
    }

    /// Asks the plugins whether a pod's network is still as they made it. Answers `Ok` where they can't tell.
    ///
    /// # Errors
    /// What is amiss, in a plugin's words.
    pub async fn check(&self, pod: &Pod) -> Result<()> {
        pod.validate()?;
        let _turn = self.0.shared.pods.lock(&pod.id).await;
        let Some(entry) = self.0.shared.cache.load(&pod.id, pod.interface())? else {
            return Ok(());
        };
        let network = Network::parse(entry.network).map_err(|reason| CniError::BadResult {
            plugin: "cache".into(),
            reason,
        })?;
        let (Some(result), true) = (
            &entry.result,
            network.version.has_check() && !network.disable_check,
        ) else {
            return Ok(());
        };
        let pod = Pod {
            netns: pod.netns.clone(),
            ..entry.pod
        };
        self.operation(&network, &pod, self.0.shared.limit)
            .check(result)
            .await
    }

    /// The addresses that an attached pod got, out of the cache: after a restart of the daemon, for instance.
    ///
    /// # Errors
    /// [`CniError::Io`] for the cache.
    pub fn cached(&self, id: &str, ifname: &str) -> Result<Option<CniResult>> {
        pod::check_id(id)?;
        let Some(entry) = self.0.shared.cache.load(id, ifname)? else {
            return Ok(None);
        };
        let Some(raw) = entry.result else { return Ok(None) };
        CniResult::parse(raw, "cache", ifname).map(Some)
    }

    /// Detaches every pod that isn't in `live`, and lets plugins (from version 1.1.0 on) clear away what belongs to
    /// none of them. Returns the ids of the pods that were detached.
    ///
    /// # Errors
    /// The first failure, after all was tried.
    pub async fn gc(&self, live: &[String]) -> Result<Vec<String>> {
        let live: HashSet<&str> = live.iter().map(String::as_str).collect();
        let mut gone = Vec::new();
        let mut first = None;
        let mut valid = Vec::new();
        for entry in self.0.shared.cache.all()? {
            let (id, ifname) = (entry.pod.id.clone(), entry.pod.interface().to_owned());
            if live.contains(id.as_str()) {
                valid.push(json!({"containerID": id, "ifname": ifname}));
                continue;
            }
            match self
                .del(&Pod {
                    netns: None,
                    ..entry.pod
                })
                .await
            {
                Ok(()) => gone.push(id),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let pod = Pod::default();
        match self.0.conf.network() {
            Ok(network) if network.version.has_status() && !network.disable_gc => {
                let swept = self
                    .operation(&network, &pod, self.0.shared.limit)
                    .gc(&valid)
                    .await;
                first = first.or(swept.err());
            }
            Ok(_) | Err(CniError::NotConfigured { .. }) => {}
            Err(error) => first = first.or(Some(error)),
        }
        first.map_or(Ok(gone), Err)
    }

    fn operation<'a>(&'a self, network: &'a Network, pod: &'a Pod, limit: Duration) -> Operation<'a> {
        Operation {
            network,
            pod,
            bin_dirs: &self.0.shared.bin_dirs,
            limit,
        }
    }
}

/// Runs work to its end, whether or not the caller goes on waiting.
async fn detached<T: Send + 'static>(
    command: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(CniError::Interrupted { command }),
    }
}

#[cfg(test)]
mod debian;
#[cfg(test)]
mod tests;
