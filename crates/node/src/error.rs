//! Refusals of this host, with the texts that clients match on (`swarm-semantics` 2.2). Must never be changed without a look
//! there.

use skep_types::control::{Code, ControlError};

fn unavailable(text: impl Into<String>) -> ControlError {
    ControlError::new(Code::Unavailable, text)
}

pub(crate) fn already_in_swarm() -> ControlError {
    unavailable("This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.")
}

pub(crate) fn not_in_swarm() -> ControlError {
    unavailable("This node is not part of a swarm")
}

pub(crate) fn no_manager_inactive() -> ControlError {
    unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    )
}

pub(crate) fn no_manager_worker() -> ControlError {
    unavailable(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.",
    )
}

pub(crate) fn no_manager_yet() -> ControlError {
    unavailable("This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster.")
}

pub(crate) fn locked() -> ControlError {
    unavailable(LOCKED)
}

/// Text of a locked manager, also in `info`.
pub(crate) const LOCKED: &str =
    "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it.";

pub(crate) fn locked_leave() -> ControlError {
    unavailable("Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.")
}

pub(crate) fn not_locked() -> ControlError {
    ControlError::new(Code::Conflict, "swarm is not locked")
}

pub(crate) fn wrong_unlock_key() -> ControlError {
    ControlError::new(Code::Unauthenticated, "swarm could not be unlocked: invalid key provided")
}

/// Text of a host whose certificate has expired, also in `info`.
pub(crate) const EXPIRED: &str = "Swarm certificates have expired. To replace them, leave the swarm and join again.";

pub(crate) fn certificates_expired() -> ControlError {
    unavailable(EXPIRED)
}

pub(crate) fn join_timeout() -> ControlError {
    unavailable(
        "Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the \"docker info\" command to see the current swarm status of your node.",
    )
}

pub(crate) fn invalid(text: impl std::fmt::Display) -> ControlError {
    ControlError::new(Code::InvalidArgument, text.to_string())
}

pub(crate) fn internal(op: &str, cause: impl std::fmt::Display) -> ControlError {
    ControlError::new(Code::Internal, format!("{op}: {cause}"))
}

/// No manager at any of the addresses answered.
pub(crate) fn unreachable(addr: &str, cause: impl std::fmt::Display) -> ControlError {
    ControlError::new(
        Code::Unknown,
        format!(
            "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp {addr}: {cause}\""
        ),
    )
}
