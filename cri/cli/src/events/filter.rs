//! Which events are shown: each condition that is given must hold, by one of its values.

use clap::{Args, ValueEnum};

use super::follow::Event;
use crate::proto::cri::ContainerEventType;

/// So many digits of an id are taken for one.
const ID_DIGITS: usize = 4;

/// Conditions of events.
#[derive(Args, Debug, Default)]
pub(crate) struct Filter {
    /// Of this pod alone, with its containers: NAME, NAMESPACE/NAME, or the beginning of its id. May be given several times.
    #[arg(short, long = "pod", value_name = "POD")]
    pods: Vec<String>,
    /// Of this container alone: its name, or the beginning of its id. May be given several times.
    #[arg(short, long = "container", value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Of this type alone. May be given several times.
    #[arg(short, long = "type", value_name = "TYPE", value_enum)]
    types: Vec<Type>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    Created,
    Started,
    Stopped,
    Deleted,
}

impl Type {
    /// As the CRI has it.
    pub(crate) fn of(kind: ContainerEventType) -> Type {
        match kind {
            ContainerEventType::ContainerCreatedEvent => Type::Created,
            ContainerEventType::ContainerStartedEvent => Type::Started,
            ContainerEventType::ContainerStoppedEvent => Type::Stopped,
            ContainerEventType::ContainerDeletedEvent => Type::Deleted,
        }
    }

    /// In one word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Type::Created => "created",
            Type::Started => "started",
            Type::Stopped => "stopped",
            Type::Deleted => "deleted",
        }
    }
}

impl Filter {
    /// Whether an event is to be shown.
    pub(crate) fn fits(&self, event: &Event) -> bool {
        let any = |values: &[String], fits: &dyn Fn(&str) -> bool| {
            values.is_empty() || values.iter().any(|value| fits(value))
        };
        let pod = |value: &str| match value.split_once('/') {
            Some((namespace, name)) => event.pod_namespace() == namespace && event.pod_name() == name,
            None => event.pod_name() == value || begins(event.pod_id(), value),
        };
        let container = |value: &str| {
            event.is_container() && (event.container_name() == value || begins(event.id(), value))
        };
        any(&self.pods, &pod)
            && any(&self.containers, &container)
            && (self.types.is_empty() || self.types.contains(&event.kind()))
    }
}

fn begins(id: &str, value: &str) -> bool {
    value.len() >= ID_DIGITS && id.starts_with(value)
}

#[cfg(test)]
mod tests {
    use super::super::follow::testing::{container, pod};
    use super::*;

    fn filter(pods: &[&str], containers: &[&str], types: &[Type]) -> Filter {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Filter {
            pods: texts(pods),
            containers: texts(containers),
            types: types.to_vec(),
        }
    }

    #[test]
    fn pods_are_named_by_name_namespace_and_id() {
        for event in [pod(Type::Created), container(Type::Created)] {
            for fits in ["web", "default/web", "00dd", "00dd11"] {
                assert!(filter(&[fits], &[], &[]).fits(&event), "{fits}");
            }
            for other in ["we", "other/web", "00d", "11", "dd11"] {
                assert!(!filter(&[other], &[], &[]).fits(&event), "{other}");
            }
            assert!(filter(&["other", "web"], &[], &[]).fits(&event), "one is enough");
            assert!(filter(&[], &[], &[]).fits(&event));
        }
    }

    #[test]
    fn containers_and_types_narrow_it_down() {
        let of_container = filter(&[], &["main"], &[]);
        assert!(of_container.fits(&container(Type::Stopped)) && !of_container.fits(&pod(Type::Stopped)));
        assert!(filter(&[], &["cc11"], &[]).fits(&container(Type::Stopped)));
        assert!(
            !filter(&[], &["00dd"], &[]).fits(&pod(Type::Stopped)),
            "that is a pod"
        );
        let ends = filter(&["web"], &[], &[Type::Stopped, Type::Deleted]);
        assert!(ends.fits(&container(Type::Deleted)) && !ends.fits(&container(Type::Started)));
    }
}
