//! The states of a pod sandbox.
//!
//! ```text
//!            RunPodSandbox succeeded          StopPodSandbox, or its
//!                                             namespaces or init are lost
//!  Creating ─────────────────────────> Ready ───────────────────────────> NotReady ──> removed
//!     └──────────────── set-up failed, and so did its undo ─────────────────┘
//! ```
//!
//! `Creating` is never shown to a client. Nothing leads back to `Ready`: kubelet makes a new sandbox instead.

use serde::{Deserialize, Serialize};

use crate::proto::PodSandboxState;

/// Where a pod sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodState {
    /// RunPodSandbox is at work, or died at it.
    Creating,
    /// Namespaces and network stand.
    Ready,
    /// Stopped, by request or by fate.
    NotReady,
}

impl PodState {
    /// Moves on to `to`; false where no arrow leads there.
    pub fn transition(&mut self, to: Self) -> bool {
        let legal = matches!(
            (*self, to),
            (Self::Creating, Self::Ready) | (Self::Creating | Self::Ready | Self::NotReady, Self::NotReady)
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
            Self::Ready => "ready",
            Self::NotReady => "not ready",
        }
    }

    /// The state on the wire.
    pub fn to_proto(self) -> PodSandboxState {
        match self {
            Self::Ready => PodSandboxState::SandboxReady,
            Self::Creating | Self::NotReady => PodSandboxState::SandboxNotready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_pod_stays_stopped() {
        let mut state = PodState::Creating;
        assert!(state.transition(PodState::Ready));
        assert!(state.transition(PodState::NotReady));
        assert!(state.transition(PodState::NotReady), "stopping twice is fine");
        assert!(!state.transition(PodState::Ready));
        assert_eq!(state, PodState::NotReady);
    }
}
