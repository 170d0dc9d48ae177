//! Numbers of the consensus, and the type parameters given to the consensus library. Must never hold logic.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest proposal in bytes (1.5 MiB), the reference's limit for one store transaction.
pub const MAX_PROPOSAL_BYTES: usize = 1_572_864;

/// Settings of one member. The defaults fit managers on one site.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// This member's raft id, drawn at random for each join and never used again.
    pub id: u64,
    /// Time between heartbeats of the leader, and the longest way to a member and back: an answer that comes later is lost.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout; also the leader's lease.
    pub election_max: Duration,
    /// A snapshot is written after this many entries.
    pub snapshot_every: u64,
    /// A snapshot is also written when the entries since the last one exceed this many bytes, and not more than this of older
    /// entries is kept for members that lag.
    pub snapshot_bytes: u64,
    /// A segment of the log is closed when it holds more than this many bytes.
    pub segment_bytes: u64,
    /// How long a proposal may wait for its commit before it is given up as [`crate::ProposeError::NoQuorum`].
    pub propose_timeout: Duration,
}

impl RaftConfig {
    /// The defaults for the member `id`: heartbeat 250 ms, elections 300–600 ms, a snapshot every 10,000 entries or 64 MiB.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            // The way around the world and back; at 100 ms a leader could not hold managers on two continents together.
            heartbeat: Duration::from_millis(250),
            // An election begins between max + min and max + max after the leader was last heard (the lease comes first): within
            // 0.9 s nobody stands up against a leader that was only paused or lost a message.
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            snapshot_every: 10_000,
            // Bounds what a restart reads and what the log takes in memory.
            snapshot_bytes: 64 * 1024 * 1024,
            // Small enough that purging frees space soon, large enough that a new file is rare.
            segment_bytes: 8 * 1024 * 1024,
            propose_timeout: Duration::from_secs(5),
        }
    }
}

/// Opaque bytes in the log. Written as one byte string, not as a list of numbers.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl serde::de::Visitor<'_> for V {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Blob, E> {
                Ok(Blob(v.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, v: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(v))
            }
        }
        d.deserialize_byte_buf(V)
    }
}

/// A member's name and address as the membership stores them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    pub(crate) node_id: String,
    pub(crate) addr: String,
}

openraft::declare_raft_types!(
    /// Types of the consensus library as used here.
    pub(crate) TypeConfig:
        D = Blob,
        R = Blob,
        NodeId = u64,
        Node = NodeInfo,
        AsyncRuntime = crate::runtime::Runtime,
);

pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, crate::snapshots::Handle>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type Inner = openraft::Raft<TypeConfig, crate::machine::Machine>;
