//! One connected plugin: who it is, what it wants to hear of, and what it has been told.
//!
//! A plugin is asked one thing at a time, in the order in which things happen; whoever wants to ask holds its turn
//! ([`Plugin::turn`]). With the turn goes what the plugin knows: an object by object account, so that each event is told
//! once, none for an object that the plugin has never heard of, and a removal never before the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use super::link::{CallError, Link};
use super::ttrpc;
use super::{NriError, names};
use crate::proto::nri::{
    ConfigureRequest, ConfigureResponse, Container, Empty, Event, PodSandbox, StateChangeEvent,
    SynchronizeRequest, SynchronizeResponse,
};

const SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// All events that there are, as bits.
const ALL_EVENTS: i32 = (1 << (Event::Last as i32 - 1)) - 1;

/// How far a pod or container has come, as a plugin has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It is there, created or running.
    Alive,
    /// It has ended.
    Stopped,
}

/// What a plugin has been told of pods and containers, by id.
pub(super) type Known = HashMap<String, Phase>;

/// A plugin that has registered.
#[derive(Debug)]
pub(super) struct Plugin {
    /// Two digits and a name: `10-example`. Plugins are asked in the order of the digits.
    pub(super) name: String,
    /// When it joined, among all plugins that ever did; 0 before.
    pub(super) joined: AtomicU64,
    link: Arc<Link>,
    events: i32,
    /// Whether it named its events, rather than taking all.
    chose: bool,
    /// Events that it hears of by StateChange only.
    by_state_change: AtomicI32,
    request_timeout: Duration,
    known: Mutex<Known>,
}

/// The right to ask a plugin something.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// What it knows so far.
    pub(super) known: MutexGuard<'a, Known>,
    plugin: &'a Plugin,
}

impl Plugin {
    /// Tells a plugin that has registered how the runtime is set up, and asks what it wants to hear of.
    ///
    /// # Errors
    /// [`NriError::Join`].
    pub(super) async fn configure(
        name: String,
        link: Arc<Link>,
        request: ConfigureRequest,
        request_timeout: Duration,
    ) -> Result<Self, NriError> {
        let answer: ConfigureResponse = link
            .call(SERVICE, "Configure", &request, request_timeout)
            .await
            .map_err(|error| NriError::join(&name, format!("Configure: {error}")))?;
        let events = match answer.events {
            0 => ALL_EVENTS,
            events if events & !ALL_EVENTS == 0 => events,
            events => return Err(NriError::join(&name, format!("unknown events {events:#x}"))),
        };
        Ok(Self {
            name,
            joined: AtomicU64::new(0),
            link,
            events,
            chose: answer.events != 0,
            by_state_change: AtomicI32::new(0),
            request_timeout,
            known: Mutex::default(),
        })
    }

    /// Waits for the right to ask; None once the plugin is gone.
    pub(super) async fn turn(&self) -> Option<Turn<'_>> {
        let known = self.known.lock().await;
        (!self.link.is_closed()).then_some(Turn { known, plugin: self })
    }

    /// Whether it hears of an event.
    pub(super) fn wants(&self, event: Event) -> bool {
        self.events & bit(event) != 0
    }

    /// Cuts the plugin off.
    pub(super) fn close(&self) {
        self.link.close();
    }

    /// Whether it is there to judge what others want: without its word no container is made.
    pub(super) fn is_validator(&self) -> bool {
        self.chose && self.wants(Event::ValidateContainerAdjustment)
    }

    /// Whether the plugin is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.link.is_closed()
    }

    /// Waits until the plugin is gone.
    pub(super) async fn wait_gone(&self) {
        self.link.wait_closed().await;
    }

    /// Tells the plugin that the runtime ends; it may take `limit` to hear it.
    pub(super) async fn shut_down(&self, limit: Duration) {
        let told: Result<Empty, _> = self.link.call(SERVICE, "Shutdown", &Empty {}, limit).await;
        if let Err(error) = told {
            tracing::debug!(plugin = self.name, %error, "not told of the end");
        }
        self.close();
    }
}

impl Turn<'_> {
    /// Asks something; None where the plugin doesn't want to hear of it, has no such method, or is gone. A plugin that
    /// takes too long, or answers nonsense, is cut off and counts as gone.
    ///
    /// # Errors
    /// [`NriError::Plugin`]: the plugin says no.
    pub(super) async fn ask<Q, A>(&self, event: Event, request: &Q) -> Result<Option<A>, NriError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        if !self.plugin.wants(event) {
            return Ok(None);
        }
        let method = names::event(event);
        let answer = self.call(method, request, self.plugin.request_timeout).await;
        match answer {
            Err(CallError::Refused { code, .. }) if code == ttrpc::UNIMPLEMENTED => Ok(None),
            other => self.settle(method, other),
        }
    }

    /// Tells of an event that wants no answer, to older plugins in the old way.
    ///
    /// # Errors
    /// As [`Turn::ask`].
    pub(super) async fn tell<Q: prost::Message>(
        &self,
        event: Event,
        request: &Q,
        pod: Option<&PodSandbox>,
        container: Option<&Container>,
    ) -> Result<(), NriError> {
        if !self.plugin.wants(event) {
            return Ok(());
        }
        let method = names::event(event);
        if self.plugin.by_state_change.load(Ordering::Relaxed) & bit(event) == 0 {
            let answer: Result<Empty, _> = self.call(method, request, self.plugin.request_timeout).await;
            match answer {
                Err(CallError::Refused { code, .. }) if code == ttrpc::UNIMPLEMENTED => {
                    self.plugin
                        .by_state_change
                        .fetch_or(bit(event), Ordering::Relaxed);
                }
                other => return self.settle(method, other).map(|_| ()),
            }
        }
        let old = StateChangeEvent {
            event: event as i32,
            pod: pod.cloned(),
            container: container.cloned(),
        };
        let answer: Result<Empty, _> = self.call("StateChange", &old, self.plugin.request_timeout).await;
        match answer {
            Err(CallError::Refused { code, .. }) if code == ttrpc::UNIMPLEMENTED => Ok(()),
            other => self.settle(method, other).map(|_| ()),
        }
    }

    /// One part of what there is when the plugin joins.
    ///
    /// # Errors
    /// Whatever the call's.
    pub(super) async fn synchronize(
        &self,
        part: &SynchronizeRequest,
        limit: Duration,
    ) -> Result<SynchronizeResponse, CallError> {
        self.call("Synchronize", part, limit).await
    }

    async fn call<Q, A>(&self, method: &str, request: &Q, limit: Duration) -> Result<A, CallError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        self.plugin.link.call(SERVICE, method, request, limit).await
    }

    fn settle<A>(&self, method: &'static str, answer: Result<A, CallError>) -> Result<Option<A>, NriError> {
        let plugin = &self.plugin.name;
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error @ (CallError::Closed | CallError::TimedOut(_) | CallError::Malformed)) => {
                tracing::warn!(plugin, request = method, %error, "a plugin is cut off");
                self.plugin.close();
                Ok(None)
            }
            Err(source @ (CallError::Refused { .. } | CallError::TooLong(_))) => Err(NriError::Plugin {
                plugin: plugin.clone(),
                request: method,
                source,
            }),
        }
    }
}

fn bit(event: Event) -> i32 {
    1 << (event as i32 - 1)
}

/// A plugin's name and index as one, if they are what they should be.
///
/// # Errors
/// [`NriError::Join`].
pub(super) fn full_name(index: &str, name: &str) -> Result<String, NriError> {
    let full = format!("{index}-{name}");
    if index.len() != 2 || !index.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NriError::join(&full, "its index is not two digits"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) {
        return Err(NriError::join(
            &full,
            "its name is not made of letters, digits and -_.+",
        ));
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices() {
        assert_eq!(full_name("07", "a-b_c.d+1").unwrap(), "07-a-b_c.d+1");
        for (index, name) in [
            ("7", "a"),
            ("a7", "b"),
            ("07", ""),
            ("07", "a b"),
            ("٠٧", "a"),
            ("07", "ä"),
        ] {
            assert!(full_name(index, name).is_err(), "{index} {name}");
        }
    }

    #[test]
    fn every_event_has_a_bit() {
        assert_eq!(ALL_EVENTS, 0x3fff);
        assert_eq!(bit(Event::RunPodSandbox), 1);
        assert_eq!(bit(Event::ValidateContainerAdjustment), 1 << 13);
    }
}
