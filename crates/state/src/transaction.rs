//! What is written at once: operations together with the versions that the decision for them was based on. Must stay readable
//! by other versions of this program, since it is what the log holds.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_types::control::StatusReport;
use skep_types::file::StoredFile;
use skep_types::object::{Cluster, Network, Node, NodeState, Service, Task, Version};
use skep_types::spec::{Protocol, TaskSpec};
use skep_types::{FileId, NetworkId, NodeId, ServiceId, TaskId, Time};

use crate::codec::Unknown;

/// Names an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// The swarm.
    Cluster,
    /// A node.
    Node(NodeId),
    /// A service.
    Service(ServiceId),
    /// A task.
    Task(TaskId),
    /// A network.
    Network(NetworkId),
    /// What a revision of a service runs; it has no version of its own.
    Revision(ServiceId, u64),
    /// A secret or config.
    File(FileId),
}

/// One write. Versions and times inside the objects are ignored: the store stamps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Writes the swarm.
    PutCluster(Box<Cluster>),
    /// Writes a node.
    PutNode(Box<Node>),
    /// Writes a service.
    PutService(Box<Service>),
    /// Writes a task.
    PutTask(Box<Task>),
    /// Writes a network.
    PutNetwork(Box<Network>),
    /// Stores what a revision of a service runs.
    PutRevision {
        /// The service.
        service: ServiceId,
        /// Its revision.
        revision: u64,
        /// What its tasks run.
        spec: Arc<TaskSpec>,
    },
    /// Removes a node.
    DeleteNode(NodeId),
    /// Removes a service; its tasks stay until they have ended.
    DeleteService(ServiceId),
    /// Removes a task.
    DeleteTask(TaskId),
    /// Removes a network.
    DeleteNetwork(NetworkId),
    /// Forgets a revision that no task runs any more.
    DeleteRevision {
        /// The service.
        service: ServiceId,
        /// Its revision.
        revision: u64,
    },
    /// A node's report on one of its tasks. Dropped without refusing the rest when the task is gone, belongs to another node,
    /// or is already further.
    Status {
        /// Who reports.
        node: NodeId,
        /// What.
        report: StatusReport,
    },
    /// Whether a node is alive. Dropped when the node is gone.
    NodeState {
        /// Which.
        node: NodeId,
        /// State.
        state: NodeState,
        /// Why.
        message: String,
    },
    /// Writes a secret or config.
    PutFile(Box<StoredFile>),
    /// Removes a secret or config.
    DeleteFile(FileId),
}

/// What is proposed to the managers as one entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Transaction {
    /// The proposer's clock.
    pub time: Time,
    /// Versions that must still be current; 0 means that the object must not exist.
    pub reads: Vec<(Key, Version)>,
    /// Writes, in order.
    pub ops: Vec<Op>,
    /// Fields of the objects in them that the proposer does not know; see [`crate::Store::encode`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<(Key, Unknown)>,
}

impl Transaction {
    /// A transaction.
    #[must_use]
    pub fn new(time: Time, reads: Vec<(Key, Version)>, ops: Vec<Op>) -> Self {
        Self { time, reads, ops, unknown: Vec::new() }
    }
}

/// What a transaction changed in one object: its value before and after.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The swarm.
    Cluster,
    /// A node.
    Node {
        /// Which.
        id: NodeId,
        /// Before.
        old: Option<Arc<Node>>,
        /// After.
        new: Option<Arc<Node>>,
    },
    /// A service.
    Service {
        /// Which.
        id: ServiceId,
        /// Before.
        old: Option<Arc<Service>>,
        /// After.
        new: Option<Arc<Service>>,
    },
    /// A task.
    Task {
        /// Which.
        id: TaskId,
        /// Before.
        old: Option<Arc<Task>>,
        /// After.
        new: Option<Arc<Task>>,
    },
    /// A network.
    Network {
        /// Which.
        id: NetworkId,
        /// Before.
        old: Option<Arc<Network>>,
        /// After.
        new: Option<Arc<Network>>,
    },
    /// A secret or config.
    File {
        /// Which.
        id: FileId,
        /// Before.
        old: Option<Arc<StoredFile>>,
        /// After.
        new: Option<Arc<StoredFile>>,
    },
}

/// Why a transaction was not applied. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    /// An object was written since it was read (`swarm-semantics` 3.1).
    #[error("update out of sequence")]
    Stale {
        /// Which.
        key: Key,
    },
    /// The name is taken.
    #[error("name conflicts with an existing object: {kind} {name} already exists")]
    Name {
        /// `service`, `network`, `secret` or `config`.
        kind: String,
        /// The name.
        name: String,
    },
    /// A port would be published by two services.
    #[error("port '{port}' is already in use by service '{name}' ({owner}) as an ingress port")]
    Port {
        /// Protocol.
        protocol: Protocol,
        /// Port.
        port: u16,
        /// Who has it.
        owner: ServiceId,
        /// The owner's name.
        name: String,
    },
    /// An address would be held twice.
    #[error("address {addr} on network {network} is already held")]
    Address {
        /// Network.
        network: NetworkId,
        /// Address.
        addr: Ipv4Addr,
    },
    /// Two networks would have one VXLAN identifier.
    #[error("VXLAN network identifier {vni} is already used by network {owner}")]
    Vni {
        /// Identifier.
        vni: u32,
        /// Who has it.
        owner: NetworkId,
    },
    /// Two networks would share addresses.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Subnet {
        /// Who has them.
        owner: NetworkId,
    },
    /// A container that is no task is on a network that would be removed.
    #[error("in use by container {container} on node {node}")]
    Attached {
        /// Its node.
        node: NodeId,
        /// Short id of the container.
        container: String,
    },
    /// A service names what would be removed.
    #[error("in use by service {by}")]
    InUse {
        /// Which.
        by: ServiceId,
    },
    /// A task's state, observed or desired, would go back.
    #[error("task {task} would go back in its life")]
    Backwards {
        /// Which.
        task: TaskId,
    },
}
