//! Messages of the services. Fields are only ever added, with a default.

use std::net::Ipv4Addr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skep_types::attach::{Answer, WantedList};
pub use skep_types::control::CertificateRequest;
use skep_types::control::{ControlError, ControlRequest, ControlResponse, IssuedCertificate, StatusReport};
pub use skep_types::gossip::Gossip;
use skep_types::logs::LogAsk;
pub use skep_types::logs::LogMessage;
use skep_types::object::NodeDescription;
pub use skep_types::session::{AgentMessage, ManagerMessage};
use skep_types::tunnel::TunnelAsk;
pub use skep_types::tunnel::TunnelMessage;
use skep_types::{NodeId, Time};

/// Nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Empty {}

/// The swarm's root certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RootAnswer {
    /// PEM; one certificate.
    pub pem: String,
    /// The manager's clock, so that a joiner with another one can say so.
    #[serde(default)]
    pub time: Time,
}

/// A certificate or a refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateAnswer(pub Result<IssuedCertificate, ControlError>);

/// A byte string (not a list of numbers) in MessagePack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl serde::de::Visitor<'_> for V {
            type Value = Payload;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Payload, E> {
                Ok(Payload(v.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, v: Vec<u8>) -> Result<Payload, E> {
                Ok(Payload(v))
            }
        }
        d.deserialize_byte_buf(V)
    }
}

/// A message between members of the raft group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RaftMessage {
    /// Kind, as the raft crate numbers them.
    pub kind: u8,
    /// Raft id of the member that sends it; 0 from a version that did not say.
    #[serde(default)]
    pub from: u64,
    /// Raft id of the member it is meant for; an address may have been reused by another.
    pub target: u64,
    /// Content.
    pub bytes: Payload,
}

/// The answer of a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RaftAnswer {
    /// Content.
    pub bytes: Payload,
}

/// What managers ask each other; only the leader answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ControlCall {
    /// An operator's call that came to another manager.
    Request(Box<ControlRequest>),
    /// A new manager wants to take part in raft.
    JoinRaft {
        /// Its node.
        node: NodeId,
        /// Its fresh raft id.
        raft_id: u64,
        /// Where it listens, `ip:port`.
        addr: String,
    },
    /// A node renews its certificate; passed on by the manager it asked.
    Renew {
        /// The node, from its certificate.
        node: NodeId,
        /// PEM.
        csr: String,
    },
    /// Certificate of a joiner; passed on by the manager it asked.
    Issue(CertificateRequest),
    /// An agent began a session with another manager.
    Register(Box<Registration>),
    /// Nodes whose agents another manager hears, sent several times a second.
    Presence {
        /// The manager that hears them.
        manager: NodeId,
        /// Each with the milliseconds since it was last heard.
        nodes: Vec<(NodeId, u32)>,
        /// Index of the transaction up to which the networks of all these nodes follow the tables.
        #[serde(default)]
        follows: u64,
    },
    /// Logs are wanted of a node, for whichever manager has its session; any manager answers.
    Logs {
        /// The node.
        node: NodeId,
        /// What is wanted.
        ask: Box<LogAsk>,
    },
    /// A task's container is wanted, for whichever manager has its node's session; any manager answers.
    Tunnel {
        /// The node.
        node: NodeId,
        /// What is wanted.
        ask: Box<TunnelAsk>,
    },
    /// Reports of agents, gathered by another manager.
    Statuses {
        /// Each with the node whose session it came from.
        reports: Vec<(NodeId, StatusReport)>,
    },
    /// What a node wants for containers that are no tasks.
    Attach {
        /// The node, from its certificate.
        node: NodeId,
        /// All of it.
        list: WantedList,
    },
}

/// What a node tells of itself when its session begins, or changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registration {
    /// The node, from its certificate.
    pub node: NodeId,
    /// What the host is.
    pub description: NodeDescription,
    /// Its data path address.
    pub addr: Option<Ipv4Addr>,
}

/// The leader's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ControlAnswer {
    /// Answer to a request.
    Response(Box<ControlResponse>),
    /// Answer to `JoinRaft`.
    Joined,
    /// Answer to `Renew` and `Issue`.
    Certificate(IssuedCertificate),
    /// Answer to `Register`, `Presence` and `Statuses`: what the leader's tables hold up to, so that whoever asked knows how
    /// far its own are behind.
    Noted {
        /// Index of the last transaction applied by the leader.
        applied: u64,
        /// Answer to `Presence`: up to where the networks of all nodes within reach follow the tables.
        #[serde(default)]
        drained: u64,
    },
    /// Answer to `Register`: the node was removed from the swarm.
    Removed,
    /// Refused.
    Error(ControlError),
    /// The answering manager does not lead.
    NotLeader {
        /// `ip:port` of the leader, if one is known.
        leader: Option<String>,
    },
    /// Answer to `Attach`.
    Attached(Answer),
}
