//! Objects of the cluster: what is wanted together with what is known.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::spec::{Availability, ClusterSpec, NetworkSpec, NodeSpec, PortConfig, Role, ServiceSpec};
use crate::{ClusterId, Ipv4Net, NetworkId, NodeId, Secret, ServiceId, TaskId, Time};

/// Raft index of the last write of an object; compared on update (`update out of sequence`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// What every object carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Last write.
    pub version: Version,
    /// When it was created.
    pub created_at: Time,
    /// When it was last written.
    pub updated_at: Time,
}

/// The swarm itself; there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// Settings.
    pub spec: ClusterSpec,
    /// Root certificate, PEM.
    pub root_ca_cert: String,
    /// Key of the root, PEM. On managers only, never shown.
    pub root_ca_key: Secret,
    /// Join token of workers.
    pub worker_token: String,
    /// Join token of managers.
    pub manager_token: String,
    /// Pool that subnets are cut from. Default 10.0.0.0/8.
    pub address_pool: Ipv4Net,
    /// Prefix length of those subnets. Default 24.
    pub subnet_size: u8,
    /// UDP port of VXLAN. Default 4789.
    pub data_path_port: u16,
    /// Certificate of the root's key, signed by the root before; goes with each certificate that is issued, so that a node that
    /// has not learnt of the new root yet can verify it. Empty if the root was never changed.
    #[serde(default)]
    pub intermediate: String,
    /// The change of root that is under way.
    #[serde(default)]
    pub root_rotation: Option<Box<RootRotation>>,
    /// [`crate::spec::CaSpec::force_rotate`] when a new root was last made for it.
    #[serde(default)]
    pub last_forced_rotation: u64,
    /// `SWMKEY-1-…`, the key that unlocks restarted managers; empty when they are not locked. Shown by `unlock-key` only.
    #[serde(default)]
    pub unlock_key: Secret,
    /// Removed nodes whose certificates may not have expired yet, with the time when they surely have. Bounded.
    #[serde(default)]
    pub blacklist: BTreeMap<NodeId, Time>,
    /// The root and who issues certificates, for answers; not stored.
    #[serde(default)]
    pub tls: TlsInfo,
}

impl Cluster {
    /// Without keys: what may be shown.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut c = self.clone();
        c.root_ca_key = Secret::default();
        c.unlock_key = Secret::default();
        c.spec.ca.signing_cert.clear();
        c.spec.ca.signing_key = Secret::default();
        if let Some(r) = &mut c.root_rotation {
            r.key = Secret::default();
        }
        c
    }

    /// The root that issues certificates now: certificate, key, and the cross-signed certificate that goes with what it issues.
    #[must_use]
    pub fn issuer(&self) -> (&str, &str, &str) {
        match &self.root_rotation {
            Some(r) => (&r.cert, &r.key, &r.cross_signed),
            None => (&self.root_ca_cert, &self.root_ca_key, &self.intermediate),
        }
    }
}

/// A change of the swarm's root: certificates are issued by the new one, trusted is the old one until every node has such a
/// certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRotation {
    /// The new root, PEM.
    pub cert: String,
    /// Its key, PEM. Never shown.
    pub key: Secret,
    /// The new root's name and key, signed by the old root, PEM.
    pub cross_signed: String,
}

/// What a node trusts and who issued its certificate, as Docker shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TlsInfo {
    /// Root that it trusts, PEM.
    pub trust_root: String,
    /// Subject of the issuer of its certificate, base64 of the DER.
    pub issuer_subject: String,
    /// Public key of that issuer, base64 of the DER.
    pub issuer_public_key: String,
}

/// What an agent tells of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeDescription {
    /// Host name.
    pub hostname: String,
    /// `linux`.
    pub os: String,
    /// As uname says it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// All CPU in nano-CPUs.
    pub nano_cpus: u64,
    /// All memory in bytes.
    pub memory: u64,
    /// Version of the engine.
    pub engine_version: String,
    /// Labels of the daemon (`engine.labels.*`).
    #[serde(default)]
    pub engine_labels: BTreeMap<String, String>,
    /// What it trusts, and who issued its certificate.
    #[serde(default)]
    pub tls: Option<TlsInfo>,
    /// From when until when its certificate is valid.
    #[serde(default)]
    pub certificate: Option<(Time, Time)>,
}

/// Whether a node is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum NodeState {
    /// Not heard of since the leader changed.
    #[default]
    Unknown,
    /// Not heard of for longer than the failure detection allows.
    Down,
    /// Has a session.
    Ready,
    /// Left or ended its session itself.
    Disconnected,
}

/// The manager side of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerStatus {
    /// Identity in raft, drawn afresh for each join.
    pub raft_id: u64,
    /// Where it listens, `ip:port`.
    pub addr: String,
}

/// A host of the swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Version and times.
    pub meta: Meta,
    /// What the operator wants of it.
    pub spec: NodeSpec,
    /// The role it has by its certificate.
    pub role: Role,
    /// What it told of itself.
    pub description: NodeDescription,
    /// Whether it is alive.
    pub state: NodeState,
    /// Why it is in that state.
    #[serde(default)]
    pub message: String,
    /// Address of its data path (VXLAN), as it advertises it.
    pub addr: Option<Ipv4Addr>,
    /// Its address on the ingress network, from which its identity on the mesh is derived.
    #[serde(default)]
    pub ingress_addr: Option<Ipv4Addr>,
    /// Set on managers.
    #[serde(default)]
    pub manager: Option<ManagerStatus>,
    /// Raft id that it had when it was last demoted, which is never used again; 0 if it never was.
    #[serde(default)]
    pub retired_raft_id: u64,
    /// It is asked to renew its certificate now, for a change of the root.
    #[serde(default)]
    pub renew: bool,
}

impl Node {
    /// A node of which nothing is known yet but what it was let in as.
    #[must_use]
    pub fn new(id: NodeId, role: Role, availability: Availability) -> Self {
        Self {
            id,
            meta: Meta::default(),
            spec: NodeSpec { role, availability, ..NodeSpec::default() },
            role,
            description: NodeDescription::default(),
            state: NodeState::Unknown,
            message: String::new(),
            addr: None,
            ingress_addr: None,
            manager: None,
            retired_raft_id: 0,
            renew: false,
        }
    }

    /// Whether it takes new tasks.
    #[must_use]
    pub fn takes_tasks(&self) -> bool {
        self.state == NodeState::Ready && self.spec.availability == Availability::Active
    }
}

/// A network of swarm scope with what was allocated for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Version and times.
    pub meta: Meta,
    /// As asked for.
    pub spec: NetworkSpec,
    /// Allocated subnet.
    pub subnet: Ipv4Net,
    /// Gateway in it.
    pub gateway: Ipv4Addr,
    /// VXLAN network identifier, from 4096.
    pub vni: u32,
}

/// Progress of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateState {
    /// `updating`
    Updating,
    /// `paused`
    Paused,
    /// `completed`
    Completed,
    /// `rollback_started`
    RollbackStarted,
    /// `rollback_paused`
    RollbackPaused,
    /// `rollback_completed`
    RollbackCompleted,
}

impl UpdateState {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackPaused => "rollback_paused",
            Self::RollbackCompleted => "rollback_completed",
        }
    }
}

/// Where an update stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// State.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    #[serde(default)]
    pub completed_at: Option<Time>,
    /// In words.
    pub message: String,
}

/// A virtual address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualIp {
    /// On which network.
    pub network: NetworkId,
    /// The address with the network's prefix.
    pub addr: Ipv4Net,
}

/// A service with what was allocated for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Version and times.
    pub meta: Meta,
    /// As asked for.
    pub spec: ServiceSpec,
    /// Revision of `spec.task` and `spec.endpoint`: raised only when tasks must be replaced.
    pub revision: u64,
    /// The spec before the last update.
    #[serde(default)]
    pub previous_spec: Option<Box<ServiceSpec>>,
    /// Published ports with the chosen numbers filled in.
    #[serde(default)]
    pub ports: Vec<PortConfig>,
    /// Virtual addresses.
    #[serde(default)]
    pub vips: Vec<VirtualIp>,
    /// Where the last update stands.
    #[serde(default)]
    pub update_status: Option<UpdateStatus>,
}

/// State of a task, as observed or as desired (`swarm-semantics` 3.2). The order is the life of a task; it only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum TaskState {
    /// Created.
    #[default]
    New,
    /// Addresses allocated, waits for a node.
    Pending,
    /// Has a node.
    Assigned,
    /// Taken by the agent.
    Accepted,
    /// Image, networks, volumes and container are being made.
    Preparing,
    /// Container exists.
    Ready,
    /// Container starts.
    Starting,
    /// Container runs.
    Running,
    /// Ended by itself with exit code 0.
    Complete,
    /// Ended on request.
    Shutdown,
    /// Failed at or after its start.
    Failed,
    /// Failed before its start.
    Rejected,
    /// To be deleted once it ended; desired only.
    Remove,
    /// Its node is gone.
    Orphaned,
}

impl TaskState {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }

    /// Ended for good: nothing of it runs any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }
}

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TaskStatus {
    /// When it was observed.
    pub timestamp: Time,
    /// Observed state.
    pub state: TaskState,
    /// In words.
    pub message: String,
    /// Why it does not run.
    #[serde(default)]
    pub err: Option<String>,
    /// Its container.
    #[serde(default)]
    pub container: Option<ContainerStatus>,
    /// Ports published on its own node, with the chosen numbers.
    #[serde(default)]
    pub ports: Vec<PortConfig>,
    /// Its node is about to end it: it takes no more requests.
    #[serde(default)]
    pub draining: bool,
}

/// A task's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ContainerStatus {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Process id on its host; 0 when it does not run.
    pub pid: i32,
    /// Exit code once it ended.
    pub exit_code: i32,
}

/// An address of a task on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// The address with the network's prefix.
    pub addr: Ipv4Net,
}

/// One attempt to run one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Version and times.
    pub meta: Meta,
    /// Its service.
    pub service: ServiceId,
    /// Name of the service when the task was made (the service may be gone).
    pub service_name: String,
    /// Labels of the service when the task was made.
    #[serde(default)]
    pub service_labels: BTreeMap<String, String>,
    /// Slot, from 1.
    pub slot: u64,
    /// Which revision of the service's spec it runs.
    pub revision: u64,
    /// Its node, once placed.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// What is wanted of it.
    pub desired: TaskState,
    /// What is known of it.
    pub status: TaskStatus,
    /// Its addresses, ingress included.
    #[serde(default)]
    pub networks: Vec<Attachment>,
    /// A replacement with desired state `ready` is released no earlier than this (restart and update delays).
    #[serde(default)]
    pub not_before: Option<Time>,
    /// When it was first seen running; failures within the monitor period count against an update.
    #[serde(default)]
    pub running_since: Option<Time>,
}

impl Task {
    /// `service.slot.id`, the name of its container.
    #[must_use]
    pub fn container_name(&self) -> String {
        format!("{}.{}.{}", self.service_name, self.slot, self.id)
    }
}
