//! Errors of the manager, and the texts that clients match on (`swarm-semantics` 2.2).

use skep_raft::{MAX_PROPOSAL_BYTES, OpenError, ProposeError};
use skep_state::Refused;
use skep_types::control::{Code, ControlError};

use crate::quorum::Quorum;

/// What operators see when no leader can be found.
const NO_LEADER: &str = "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.";

/// Why a manager could not be started, or could not take part.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Raft could not be opened.
    #[error("start manager: {0}")]
    Open(#[from] OpenError),
    /// The swarm could not be founded.
    #[error("found swarm: {0}")]
    Bootstrap(String),
    /// No manager took this one in.
    #[error("join raft of the swarm: {0}")]
    Join(String),
}

/// A refusal in gRPC's envelope, as the docker CLI prints it.
pub(crate) fn rpc(code: Code, text: impl std::fmt::Display) -> ControlError {
    let name = match code {
        Code::InvalidArgument => "InvalidArgument",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::Unauthenticated => "Unauthenticated",
        Code::Unimplemented => "Unimplemented",
        Code::Unavailable => "Unavailable",
        Code::Internal => "Internal",
        Code::Unknown | Code::Conflict | Code::NotModified => "Unknown",
    };
    ControlError::new(code, format!("rpc error: code = {name} desc = {text}"))
}

pub(crate) fn invalid(text: impl std::fmt::Display) -> ControlError {
    rpc(Code::InvalidArgument, text)
}

/// Docker's text, and how many managers there are.
pub(crate) fn no_leader(q: Quorum) -> ControlError {
    ControlError::new(Code::Unknown, format!("{NO_LEADER} ({} of {} managers reachable)", q.reachable, q.voters))
}

/// The leader was lost between a call and its answer.
pub(crate) fn answer_lost() -> ControlError {
    rpc(Code::Unknown, "the leader was lost while it worked on this call, which may have been done: look before you repeat it")
}

/// Why a transaction was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the transaction has {bytes} bytes, more than {MAX_PROPOSAL_BYTES}")]
    TooLarge { bytes: usize },
    #[error("encode transaction: {0}")]
    Encode(String),
}

impl WriteError {
    /// As the client of a call sees it.
    pub(crate) fn into_control(self) -> ControlError {
        match self {
            Self::TooLarge { bytes } => invalid(format!(
                "the request would need {bytes} bytes in the log of the managers, more than the {MAX_PROPOSAL_BYTES} allowed; make the spec smaller"
            )),
            Self::Propose(ProposeError::TooLarge { .. }) => {
                rpc(Code::Unknown, "raft: raft message is too large and can't be sent")
            }
            Self::Propose(_) => ControlError::new(Code::Unknown, NO_LEADER),
            Self::Refused(e @ Refused::Name { .. }) => match &e {
                Refused::Name { kind, name } if kind == "network" => {
                    ControlError::new(Code::AlreadyExists, format!("network with name {name} already exists"))
                }
                _ => rpc(Code::AlreadyExists, e),
            },
            Self::Refused(e @ Refused::Port { .. }) => rpc(Code::InvalidArgument, e),
            Self::Refused(e @ Refused::Subnet { .. }) => rpc(Code::InvalidArgument, e),
            Self::Refused(e) => rpc(Code::Unknown, e),
            Self::Encode(e) => rpc(Code::Internal, e),
        }
    }
}
