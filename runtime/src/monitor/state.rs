//! The states of a container and the only ways between them.
//!
//! ```text
//!            Started            InitExited            Drained
//!  Created ───────────▶ Running ───────────▶ Draining ────────▶ Exited
//!     │                                          ▲                 ▲
//!     ├──────────── InitExited ──────────────────┘                 │
//!     └──────────── StartFailed ───────────────────────────────────┘
//! ```
//!
//! Draining: the process has ended, and what it wrote is still on its way into the log. The daemon sees that as
//! running, for an exit is only told once the log is complete. A container is deleted from Created or Exited.

use crate::protocol::{ContainerStatus, Exit};

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its init waits to be started.
    Created,
    /// Its process runs.
    Running { started_at: i64 },
    /// Its process has ended; its output is being drained.
    Draining { started_at: Option<i64>, exit: Exit },
    /// All is over.
    Exited { started_at: Option<i64>, exit: Exit },
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// execve succeeded, at this Unix time in nanoseconds.
    Started(i64),
    /// execve failed.
    StartFailed(Exit),
    /// The init was reaped.
    InitExited(Exit),
    /// Its output has ended, or is waited for no longer.
    Drained,
}

/// A step that the state doesn't allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) state: State,
    pub(crate) step: Step,
}

impl State {
    /// The state after `step`.
    pub(crate) fn transition(self, step: Step) -> Result<Self, Refused> {
        match (self, step) {
            (Self::Created, Step::Started(started_at)) => Ok(Self::Running { started_at }),
            (Self::Created, Step::StartFailed(exit)) => Ok(Self::Exited {
                started_at: None,
                exit,
            }),
            (Self::Created, Step::InitExited(exit)) => Ok(Self::Draining {
                started_at: None,
                exit,
            }),
            (Self::Running { started_at }, Step::InitExited(exit)) => Ok(Self::Draining {
                started_at: Some(started_at),
                exit,
            }),
            (Self::Draining { started_at, exit }, Step::Drained) => Ok(Self::Exited { started_at, exit }),
            (state, step) => Err(Refused { state, step }),
        }
    }

    /// Whether the init lives, as far as is known.
    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::Created | Self::Running { .. })
    }

    /// As the daemon sees it.
    pub(crate) fn status(self) -> ContainerStatus {
        match self {
            Self::Created => ContainerStatus::Created,
            Self::Running { .. } | Self::Draining { .. } => ContainerStatus::Running,
            Self::Exited { .. } => ContainerStatus::Exited,
        }
    }

    /// When its process was started.
    pub(crate) fn started_at(self) -> Option<i64> {
        match self {
            Self::Created => None,
            Self::Running { started_at } => Some(started_at),
            Self::Draining { started_at, .. } | Self::Exited { started_at, .. } => started_at,
        }
    }

    /// How it ended, once that may be told.
    pub(crate) fn exit(self) -> Option<Exit> {
        match self {
            Self::Exited { exit, .. } => Some(exit),
            Self::Created | Self::Running { .. } | Self::Draining { .. } => None,
        }
    }

    /// For messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Draining { .. } => "stopping",
            Self::Exited { .. } => "exited",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Exit = Exit {
        code: 3,
        signal: None,
        oom_killed: false,
        finished_at: 9,
    };

    #[test]
    fn the_drawing_is_what_is_allowed() {
        let states = [
            State::Created,
            State::Running { started_at: 1 },
            State::Draining {
                started_at: Some(1),
                exit: EXIT,
            },
            State::Exited {
                started_at: Some(1),
                exit: EXIT,
            },
        ];
        let steps = [
            Step::Started(1),
            Step::StartFailed(EXIT),
            Step::InitExited(EXIT),
            Step::Drained,
        ];
        let allowed: Vec<(usize, usize)> = (0..4)
            .flat_map(|state| (0..4).map(move |step| (state, step)))
            .filter(|&(state, step)| states[state].transition(steps[step]).is_ok())
            .collect();
        assert_eq!(allowed, [(0, 0), (0, 1), (0, 2), (1, 2), (2, 3)]);
    }

    #[test]
    fn an_exit_is_told_only_when_drained() {
        let draining = State::Running { started_at: 1 }
            .transition(Step::InitExited(EXIT))
            .unwrap();
        assert_eq!(
            (draining.status(), draining.exit()),
            (ContainerStatus::Running, None)
        );
        let exited = draining.transition(Step::Drained).unwrap();
        assert_eq!(
            (exited.status(), exited.exit(), exited.started_at()),
            (ContainerStatus::Exited, Some(EXIT), Some(1))
        );
    }
}
