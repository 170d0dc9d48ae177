//! Calls that operators make on the cluster, and what agents and managers tell each other.
//!
//! A [`ControlRequest`] is answered by the leader; any manager takes it and forwards it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::file::{FileKind, FileSpec, StoredFile};
use crate::object::{Cluster, Network, Node, Service, Task, TaskState, TaskStatus, Version};
use crate::spec::{Availability, ClusterSpec, NetworkSpec, NodeSpec, Role, ServiceSpec, TaskSpec};
use crate::{ClusterId, FileId, NodeId, Secret, ServiceId, TaskId, Time};

/// A call on the cluster. `target` strings are a full id, an exact name or a unique id prefix (`swarm-semantics` 1.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ControlRequest {
    /// The swarm.
    GetCluster,
    /// New settings, or new join tokens.
    UpdateCluster {
        /// Version last read.
        version: Version,
        /// New settings.
        spec: ClusterSpec,
        /// New token for workers.
        rotate_worker: bool,
        /// New token for managers.
        rotate_manager: bool,
        /// New unlock key, if managers are locked.
        #[serde(default)]
        rotate_unlock: bool,
    },
    /// The key that unlocks managers.
    GetUnlockKey,
    /// How the managers are doing.
    GetStatus,
    /// Up to where the tables must be for everything acknowledged before this call to be in them.
    GetApplied,
    /// All nodes.
    ListNodes,
    /// One node.
    GetNode {
        /// Which.
        target: String,
    },
    /// New spec of a node.
    UpdateNode {
        /// Which.
        target: String,
        /// Version last read.
        version: Version,
        /// The complete new spec.
        spec: NodeSpec,
    },
    /// Forget a node.
    RemoveNode {
        /// Which.
        target: String,
        /// Also when it is alive.
        force: bool,
    },
    /// A node says that it leaves.
    NodeLeaves {
        /// Which.
        node: NodeId,
    },
    /// New service.
    CreateService {
        /// Its spec.
        spec: Box<ServiceSpec>,
    },
    /// All services.
    ListServices,
    /// One service.
    GetService {
        /// Which.
        target: String,
    },
    /// New spec of a service.
    UpdateService {
        /// Which.
        target: String,
        /// Version last read.
        version: Version,
        /// The complete new spec; ignored for a rollback.
        spec: Box<ServiceSpec>,
        /// Return to the previous spec.
        rollback: bool,
    },
    /// Remove a service.
    RemoveService {
        /// Which.
        target: String,
    },
    /// All tasks with the spec revisions that they run.
    ListTasks,
    /// One task.
    GetTask {
        /// Which.
        target: String,
    },
    /// New network.
    CreateNetwork {
        /// Its spec.
        spec: NetworkSpec,
    },
    /// All networks.
    ListNetworks,
    /// One network.
    GetNetwork {
        /// Which.
        target: String,
    },
    /// Remove a network.
    RemoveNetwork {
        /// Which.
        target: String,
    },
    /// New secret or config.
    CreateFile {
        /// Its spec.
        spec: Box<FileSpec>,
    },
    /// All secrets, or all configs.
    ListFiles {
        /// Which of the two.
        kind: FileKind,
    },
    /// One secret or config.
    GetFile {
        /// Which of the two.
        kind: FileKind,
        /// Which.
        target: String,
    },
    /// New labels of a secret or config.
    UpdateFile {
        /// Which.
        target: String,
        /// Version last read.
        version: Version,
        /// The complete new spec; only the labels may differ. Without data it has that of before.
        spec: Box<FileSpec>,
    },
    /// Remove a secret or config.
    RemoveFile {
        /// Which of the two.
        kind: FileKind,
        /// Which.
        target: String,
    },
}

/// A task together with the spec that it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskView {
    /// The task.
    pub task: Arc<Task>,
    /// Its spec; absent if the revision is already forgotten.
    pub spec: Option<Arc<TaskSpec>>,
    /// It is of a revision before the current one, and is left as it is: only constraints differ, and its node satisfies them.
    #[serde(default)]
    pub left_alone: bool,
}

/// How a manager is doing, as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerHealth {
    /// Leads.
    pub leader: bool,
    /// Answers.
    pub reachable: bool,
}

/// A node as clients see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    /// The node.
    pub node: Arc<Node>,
    /// Set on managers.
    pub health: Option<ManagerHealth>,
}

/// Answer to a [`ControlRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ControlResponse {
    /// Done.
    Done,
    /// The swarm.
    Cluster(Arc<Cluster>),
    /// Nodes (one for `GetNode`).
    Nodes(Vec<NodeView>),
    /// The new service.
    ServiceCreated {
        /// Its id.
        id: ServiceId,
    },
    /// Services (one for `GetService`).
    Services(Vec<Arc<Service>>),
    /// Tasks (one for `GetTask`).
    Tasks(Vec<TaskView>),
    /// Networks (one for `GetNetwork`, the new one for `CreateNetwork`).
    Networks(Vec<Arc<Network>>),
    /// The new secret or config.
    FileCreated {
        /// Its id.
        id: FileId,
    },
    /// Secrets, without their bytes, or configs (one for `GetFile`).
    Files(Vec<Arc<StoredFile>>),
    /// `SWMKEY-1-…`, empty when managers are not locked.
    UnlockKey(Secret),
    /// How the managers are doing.
    Status(Box<SwarmStatus>),
    /// Index of the last entry that the leader has applied.
    Applied(u64),
}

/// How the managers of a swarm are doing, as the answering one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SwarmStatus {
    /// The swarm.
    pub cluster: ClusterId,
    /// Who says all this.
    pub by: NodeId,
    /// Whether it leads; a manager that cannot reach the leader tells what it knows itself.
    pub by_leader: bool,
    /// Raft's term.
    pub term: u64,
    /// Index of the last entry of the log.
    pub last_log: u64,
    /// Index of the last entry that is agreed on.
    pub committed: u64,
    /// Index of the last entry in the answering manager's snapshot; 0 if there is none.
    pub snapshot: u64,
    /// How old that snapshot is, if it is known.
    pub snapshot_age: Option<Duration>,
    /// Bytes of that snapshot on disk.
    pub snapshot_bytes: u64,
    /// Bytes of its log on disk.
    pub log_bytes: u64,
    /// The answering manager's clock.
    pub time: Time,
    /// The managers.
    pub managers: Vec<ManagerPosition>,
    /// Certificates of all nodes: node, host name, from when, until when.
    pub certificates: Vec<(NodeId, String, Time, Time)>,
}

/// One manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ManagerPosition {
    /// Its node.
    pub node: NodeId,
    /// Host name.
    pub hostname: String,
    /// Where other managers reach it, `ip:port`.
    pub addr: String,
    /// Raft id.
    pub raft_id: u64,
    /// Leads.
    pub leader: bool,
    /// Votes; one that does not is still catching up.
    pub voter: bool,
    /// Answers, as far as the answering manager knows.
    pub reachable: bool,
    /// Index of the last entry that it is known to have.
    pub matched: Option<u64>,
}

/// Class of a refusal; the API's edge turns it into a status (`swarm-semantics` 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// 400
    InvalidArgument,
    /// 400
    FailedPrecondition,
    /// 404
    NotFound,
    /// 409
    AlreadyExists,
    /// 403
    PermissionDenied,
    /// 401
    Unauthenticated,
    /// 501
    Unimplemented,
    /// 503
    Unavailable,
    /// 500
    Unknown,
    /// 500
    Internal,
    /// 409, said by the engine
    Conflict,
    /// 304, nothing to do
    NotModified,
}

/// A refusal, with the text that clients see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// Class.
    pub code: Code,
    /// Whole text, envelope included where Docker has one (`rpc error: code = …`).
    pub message: String,
}

impl ControlError {
    /// A refusal with its text as it stands.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A task as its node gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task; its status is what the managers last knew.
    pub task: Task,
    /// What it runs.
    pub spec: TaskSpec,
    /// Published ports of its service, with numbers: its own of `mode=host`, and those of the mesh.
    #[serde(default)]
    pub ports: Vec<crate::spec::PortConfig>,
    /// Id and name of each network it is attached to, ingress included.
    #[serde(default)]
    pub networks: Vec<AssignedNetwork>,
    /// Labels of its service, if its spec has templates.
    #[serde(default)]
    pub service_labels: crate::spec::Labels,
}

/// A network as a task on this node needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedNetwork {
    /// Which.
    pub id: crate::NetworkId,
    /// Its name.
    pub name: String,
    /// The task's address.
    pub addr: crate::Ipv4Net,
    /// The mesh; no interface in the container.
    pub ingress: bool,
    /// No way out.
    pub internal: bool,
    /// Names of the service on it.
    pub aliases: Vec<String>,
}

/// A status that an agent reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Which task.
    pub task: TaskId,
    /// What was observed.
    pub status: TaskStatus,
}

/// Where this host stands in a swarm, as `info` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum LocalState {
    /// In no swarm.
    #[default]
    Inactive,
    /// Joining, or coming up.
    Pending,
    /// In a swarm.
    Active,
    /// In a swarm, but not able to take part.
    Error,
    /// A manager whose keys are sealed: it waits for the unlock key.
    Locked,
}

/// The swarm as this host sees it.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub struct SwarmInfo {
    /// This host's id in the swarm.
    pub node_id: Option<NodeId>,
    /// Its advertised address.
    pub node_addr: String,
    /// Where it stands.
    pub state: LocalState,
    /// A manager that is up.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// Managers known here: (node id, `ip:port`).
    pub managers: Vec<(NodeId, String)>,
    /// Number of nodes, on a manager with a leader.
    pub nodes: Option<u64>,
    /// Number of managers, likewise.
    pub manager_count: Option<u64>,
    /// The swarm, likewise.
    pub cluster: Option<Arc<Cluster>>,
}

/// Where an advertised address comes from: whether it may change with the host's interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum AdvertiseFrom {
    /// The operator named it: it never changes by itself.
    #[default]
    Given,
    /// It is that of an interface that the operator named.
    Interface(String),
    /// It was the only one that this host had.
    Found,
}

/// `swarm init`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitRequest {
    /// `ip:port`, default `0.0.0.0:2377`.
    pub listen_addr: String,
    /// Address told to other nodes: `ip[:port]`, already resolved from interface names; required here.
    pub advertise_addr: String,
    /// Where it comes from.
    #[serde(default)]
    pub advertise_from: AdvertiseFrom,
    /// Address of the data path; the advertised one when absent.
    pub data_path_addr: Option<Ipv4Addr>,
    /// UDP port of VXLAN; 0 means 4789.
    pub data_path_port: u16,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// Settings.
    pub spec: ClusterSpec,
    /// Pools that subnets are cut from, and their prefix length.
    pub address_pools: (Vec<crate::Ipv4Net>, u8),
    /// Make a swarm of one of what this manager has, without the other managers.
    #[serde(default)]
    pub force_new_cluster: bool,
}

/// `swarm join`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// `ip:port`, default `0.0.0.0:2377`.
    pub listen_addr: String,
    /// As in [`InitRequest`].
    pub advertise_addr: String,
    /// As in [`InitRequest`].
    #[serde(default)]
    pub advertise_from: AdvertiseFrom,
    /// As in [`InitRequest`].
    pub data_path_addr: Option<Ipv4Addr>,
    /// Managers to ask, `host:port`.
    pub remote_addrs: Vec<String>,
    /// `SWMTKN-1-…`.
    pub token: String,
    /// Whether this node takes tasks.
    pub availability: Availability,
}

/// An assignment that an agent has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTask {
    /// The task.
    pub task: TaskId,
    /// What was last wanted of it.
    pub desired: TaskState,
    /// What it has become.
    pub state: TaskState,
    /// Published ports it was told.
    #[serde(default)]
    pub ports: Vec<crate::spec::PortConfig>,
}

/// `skep swarm restore`.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// As in [`InitRequest`].
    pub listen_addr: String,
    /// As in [`InitRequest`].
    pub advertise_addr: String,
    /// As in [`InitRequest`].
    pub advertise_from: AdvertiseFrom,
    /// The key that seals the backup, if it is sealed.
    pub unlock_key: Secret,
    /// Its bytes.
    pub backup: Vec<u8>,
}

/// What the reporter of an agent keeps for one task.
#[must_use]
pub fn newer(a: &TaskStatus, b: &TaskStatus) -> bool {
    a.state > b.state || (a.state == b.state && a.timestamp > b.timestamp && a != b)
}

/// Certificate request of a joiner or of a node that renews.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// PEM.
    pub csr: String,
    /// Join token; empty for a renewal.
    pub token: String,
    /// Wanted availability of a new node.
    pub availability: Availability,
    /// Certificate chain of a node whose certificate expired, PEM; the request is signed with its key. Otherwise empty.
    #[serde(default)]
    pub expired: String,
}

/// A certificate and what it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// The node's id.
    pub node: NodeId,
    /// The swarm.
    pub cluster: ClusterId,
    /// Its role.
    pub role: Role,
    /// Certificate chain, PEM.
    pub chain: String,
    /// The issuer's clock, so that a joiner with another clock can say so.
    pub issued_at: Time,
    /// For a manager of a swarm whose managers are locked: what to seal its keys with.
    #[serde(default)]
    pub unlock_key: Secret,
    /// Version of the cluster object that had this unlock key.
    #[serde(default)]
    pub unlock_version: Version,
}
