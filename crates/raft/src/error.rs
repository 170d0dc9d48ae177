//! Errors of this crate. Each names what was attempted and why it failed.

use crate::{LogError, Peer};

/// Why a member could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log or the snapshot on disk cannot be used.
    #[error("open raft log: {0}")]
    Log(#[from] LogError),
    /// The consensus library refused to start.
    #[error("start raft: {0}")]
    Start(String),
}

/// Why a proposal (or a change of members, or a read barrier) was not agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead. Nothing was written.
    #[error("propose: this manager is not the leader")]
    NotLeader {
        /// The leader, if one is known.
        leader: Option<Peer>,
    },
    /// No quorum answered in time. The proposal may still be committed later.
    #[error("propose: no quorum of managers answered")]
    NoQuorum,
    /// The proposal is larger than [`crate::MAX_PROPOSAL_BYTES`].
    #[error("raft: raft message is too large and can't be sent ({bytes} bytes)")]
    TooLarge {
        /// Size of the refused proposal in bytes.
        bytes: usize,
    },
    /// Too much waits for this member's disk. Nothing was written.
    #[error("propose: {0}")]
    Stalled(String),
    /// The change of members was refused.
    #[error("change members: {0}")]
    Members(String),
    /// This member has stopped, or its disk failed.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// Why a message to another member got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer did not answer or could not be connected to.
    #[error("call {addr}: {cause}")]
    Unreachable {
        /// Address that was called.
        addr: String,
        /// What went wrong.
        cause: String,
    },
    /// The peer answered with an error.
    #[error("call {addr}: peer refused: {cause}")]
    Refused {
        /// Address that was called.
        addr: String,
        /// The peer's words.
        cause: String,
    },
    /// The peer says that this member was removed from the group. [`crate::Raft::removed`] tells it on.
    #[error("call {addr}: this manager was removed from the swarm")]
    Removed {
        /// Address that was called.
        addr: String,
    },
}

/// Why an incoming message was not handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// The message is not one of ours.
    #[error("handle raft message: cannot decode {kind}: {cause}")]
    Decode {
        /// Kind of message.
        kind: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// A part of a snapshot does not continue what came before.
    #[error("handle raft message: part of a snapshot out of order")]
    SnapshotOrder,
    /// This member has stopped or failed.
    #[error("handle raft message: {0}")]
    Failed(String),
}
