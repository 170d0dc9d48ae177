//! Who takes part, who leads, and who can be reached. Must never decide who should.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::KeyId;

/// A member of the raft group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Peer {
    /// Raft id, drawn at random for each join.
    pub id: u64,
    /// Node id as text.
    pub node_id: String,
    /// Address `host:port` of its manager port.
    pub addr: String,
}

/// Who leads, as this member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Current term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<Peer>,
    /// Whether this member itself leads.
    pub is_leader: bool,
}

/// One member and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The member.
    pub peer: Peer,
    /// Whether it votes (else it only learns).
    pub voter: bool,
    /// Whether it answered recently; only the leader knows, so `true` on other members.
    pub reachable: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Index of the last entry it is known to have. Only the leader knows of others; `None` if unknown or none.
    pub matched: Option<u64>,
}

/// A view of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// All members, by raft id.
    pub members: Vec<Member>,
    /// Current term.
    pub term: u64,
    /// Index of the last entry in this member's log (0 = none). A member's lag is this less its `matched`.
    pub last_log: u64,
    /// Index of the last entry this member knows to be agreed on (0 = none).
    pub committed: u64,
    /// Index of the last entry this member has applied (0 = none).
    pub last_applied: u64,
    /// Index of the last entry in this member's snapshot (0 = there is none).
    pub snapshot: u64,
    /// How long ago the snapshot was taken, if this process took or received it.
    pub snapshot_age: Option<Duration>,
    /// Bytes of the snapshot on disk.
    pub snapshot_bytes: u64,
    /// Segments of the log on disk.
    pub segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Bytes that were handed to the disk and are not on it yet.
    pub waiting_bytes: u64,
    /// How long ago a quorum last acknowledged this leader; `None` on other members.
    pub quorum_ack: Option<Duration>,
    /// The key that everything new is sealed with.
    pub key: Option<KeyId>,
}
