//! The states of a container.
//!
//! ```text
//!            CreateContainer        StartContainer           its init ended
//!  Creating ───────────────> Created ─────────────> Running ───────────────> Exited ──> removed
//!                               │                      │                       ▲
//!                               │ failed start,        │ its monitor is lost   │ killed, or found gone
//!                               │ or its init died     └──────> Unknown ───────┤
//!                               └──────────────────────────────────────────────┘
//! ```
//!
//! `Creating` is never shown to a client. An exited container is never started again.

use serde::{Deserialize, Serialize};

use crate::proto;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// CreateContainer is at work, or died at it.
    Creating,
    /// Its init waits for StartContainer.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended, or could not be started.
    Exited,
    /// It may run, but nobody can tell.
    Unknown,
}

impl ContainerState {
    /// Moves on to `to`; false where no arrow leads there.
    pub fn transition(&mut self, to: Self) -> bool {
        use ContainerState::{Created, Creating, Exited, Running, Unknown};
        let legal = matches!(
            (*self, to),
            (Creating, Created)
                | (Created, Running | Exited)
                | (Running, Unknown | Exited)
                | (Created | Unknown, Unknown)
                | (Unknown, Exited)
        );
        if legal {
            *self = to;
        }
        legal
    }

    /// The word for error messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "being created",
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "in an unknown state",
        }
    }

    /// The state on the wire.
    pub fn to_proto(self) -> proto::ContainerState {
        match self {
            Self::Creating | Self::Unknown => proto::ContainerState::ContainerUnknown,
            Self::Created => proto::ContainerState::ContainerCreated,
            Self::Running => proto::ContainerState::ContainerRunning,
            Self::Exited => proto::ContainerState::ContainerExited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerState::{Created, Creating, Exited, Running, Unknown};

    #[test]
    fn only_the_drawn_arrows_can_be_walked() {
        for (from, to) in [
            (Creating, Created),
            (Created, Running),
            (Created, Exited),
            (Running, Exited),
            (Unknown, Exited),
        ] {
            let mut state = from;
            assert!(state.transition(to), "{from:?} to {to:?}");
        }
        for (from, to) in [
            (Exited, Running),
            (Exited, Exited),
            (Running, Created),
            (Creating, Running),
            (Unknown, Running),
        ] {
            let mut state = from;
            assert!(!state.transition(to), "{from:?} to {to:?}");
            assert_eq!(state, from);
        }
    }
}
