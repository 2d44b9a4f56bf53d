//! How events are shown: in columns, or as JSON.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde::Serialize;

use super::filter::Type;
use super::follow::{Event, Gap, Told};
use super::moment;
use crate::proto::cri::{ContainerState, ContainerStatus};

/// How much of an id tells objects apart.
const SHORT: usize = 13;
/// The columns' widths; the longest time, and the longest words.
const TIME: usize = 30;
const WORD: usize = 7;
const KIND: usize = 9;

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

impl Output {
    /// One line, without its end.
    pub(crate) fn line(self, told: &Told) -> serde_json::Result<String> {
        match (self, told) {
            (Output::Text, Told::Event(event)) => Ok(columns(event)),
            (Output::Text, Told::Gap(gap)) => Ok(sentence(*gap)),
            (Output::Json, Told::Event(event)) => serde_json::to_string(&Line::of(event)),
            (Output::Json, Told::Gap(gap)) => serde_json::to_string(&GapLine::of(*gap)),
        }
    }
}

fn columns(event: &Event) -> String {
    let kind = if event.is_container() { "container" } else { "pod" };
    let id: String = event.id().chars().take(SHORT).collect();
    let mut line = format!(
        "{:TIME$}  {:WORD$}  {kind:KIND$}  {id:SHORT$}  {}/{}",
        moment::shown(event.place()),
        event.kind().word(),
        event.pod_namespace().escape_debug(),
        event.pod_name().escape_debug(),
    );
    if event.is_container() && !event.container_name().is_empty() {
        // Writing to a text can't fail.
        let _ = write!(line, "/{}", event.container_name().escape_debug());
    }
    if let (Type::Stopped, Some(status)) = (event.kind(), event.status()) {
        let _ = write!(line, "  exit code {}", status.exit_code);
        if !status.reason.is_empty() {
            let _ = write!(line, ", {}", status.reason.escape_debug());
        }
    }
    line
}

fn sentence(gap: Gap) -> String {
    let after = moment::shown(gap.after);
    match gap.until {
        Some(until) if until > gap.after => format!(
            "events after {after} and up to {} are lost: the daemon doesn't keep them, or was started in between",
            moment::shown(until)
        ),
        _ => format!("events after {after} may be lost: the daemon was started in between"),
    }
}

/// An event as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    /// For `--since`; text, for it is more than a number of JSON holds everywhere.
    token: String,
    time: String,
    r#type: &'static str,
    kind: &'static str,
    id: &'a str,
    pod: PodPart<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerPart<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodPart<'a> {
    id: &'a str,
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    attempt: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPart<'a> {
    name: &'a str,
    attempt: u32,
    /// A deleted container has none of these.
    #[serde(flatten)]
    status: Option<StatusPart<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusPart<'a> {
    image: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

impl<'a> Line<'a> {
    fn of(event: &'a Event) -> Line<'a> {
        let pod = event.pod();
        Line {
            token: event.place().to_string(),
            time: moment::shown(event.place()),
            r#type: event.kind().word(),
            kind: if event.is_container() { "container" } else { "pod" },
            id: event.id(),
            pod: PodPart {
                id: event.pod_id(),
                namespace: &pod.namespace,
                name: &pod.name,
                uid: &pod.uid,
                attempt: pod.attempt,
            },
            container: event.is_container().then(|| ContainerPart {
                name: event.container_name(),
                attempt: event.container_attempt(),
                status: event.status().map(StatusPart::of),
            }),
        }
    }
}

impl<'a> StatusPart<'a> {
    fn of(status: &'a ContainerStatus) -> StatusPart<'a> {
        let has_ended = status.state() == ContainerState::ContainerExited;
        StatusPart {
            image: status
                .image
                .as_ref()
                .map(|image| image.image.as_str())
                .unwrap_or_default(),
            state: match status.state() {
                ContainerState::ContainerCreated => "created",
                ContainerState::ContainerRunning => "running",
                ContainerState::ContainerExited => "exited",
                ContainerState::ContainerUnknown => "unknown",
            },
            exit_code: has_ended.then_some(status.exit_code),
            reason: &status.reason,
            message: &status.message,
        }
    }
}

/// What is lost, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GapLine {
    r#type: &'static str,
    /// The token of what was had last.
    after: String,
    /// From which on all comes; not there where the server doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl GapLine {
    fn of(gap: Gap) -> GapLine {
        GapLine {
            r#type: "gap",
            after: gap.after.to_string(),
            token: gap.until.map(|until| until.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::follow::testing::{container, pod};
    use super::*;

    fn text(told: &Told) -> String {
        Output::Text.line(told).unwrap()
    }

    fn json(told: &Told) -> Value {
        serde_json::from_str(&Output::Json.line(told).unwrap()).unwrap()
    }

    #[test]
    fn text_has_columns() {
        let of = |event| text(&Told::Event(Box::new(event)));
        assert_eq!(
            of(pod(Type::Created)),
            "2023-11-14T22:13:20.000000001Z  created  pod        00dd112233445  default/web"
        );
        assert_eq!(
            of(container(Type::Stopped)),
            "2023-11-14T22:13:20.000000001Z  stopped  container  cc11223344556  default/web/main  exit code 137, OOMKilled"
        );
    }

    #[test]
    fn json_has_all_for_the_next_call() {
        let shown = json(&Told::Event(Box::new(container(Type::Stopped))));
        let pod = json!({"id": "00dd11223344556677", "namespace": "default", "name": "web", "uid": "u", "attempt": 0});
        let container_part = json!({"name": "main", "attempt": 2, "image": "", "state": "exited", "exitCode": 137,
                                    "reason": "OOMKilled"});
        let expected = json!({"token": "1700000000000000001", "time": "2023-11-14T22:13:20.000000001Z",
                              "type": "stopped", "kind": "container", "id": "cc1122334455667788",
                              "pod": pod, "container": container_part});
        assert_eq!(shown, expected);
        let deleted = json(&Told::Event(Box::new(container(Type::Deleted))));
        assert_eq!(deleted["container"], json!({"name": "main", "attempt": 2}));
    }

    #[test]
    fn gaps_say_what_is_lost() {
        let gap = |until| {
            Told::Gap(Gap {
                after: 1_700_000_000_000_000_000,
                until,
            })
        };
        let later = Some(1_700_000_001_000_000_000);
        assert!(
            text(&gap(later))
                .starts_with("events after 2023-11-14T22:13:20Z and up to 2023-11-14T22:13:21Z are lost")
        );
        assert!(text(&gap(None)).starts_with("events after 2023-11-14T22:13:20Z may be lost"));
        assert_eq!(
            json(&gap(later)),
            json!({"type": "gap", "after": "1700000000000000000", "token": "1700000001000000000"})
        );
    }
}
