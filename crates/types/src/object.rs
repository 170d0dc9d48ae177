//! Objects of the cluster: what is wanted together with what is known.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

pub use crate::task::{Attachment, ContainerStatus, SlotKey, Task, TaskState, TaskStatus};

use crate::attach::HeldList;
use crate::net::{Pairing, V6Range};
use crate::spec::{
    Availability, ClusterSpec, GenericResource, NetworkSpec, NodeSpec, PortConfig, Role, ServiceMode, ServiceSpec,
};
use crate::wireguard::PublicKey;
use crate::{ClusterId, IpNet, Ipv4Net, Ipv6Net, NetworkId, NodeId, Secret, ServiceId, Time};

/// Raft index of the last write of an object; compared on update (`update out of sequence`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// What every object carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
    /// Pools that subnets are cut from, the first one first; they do not overlap. Default 10.0.0.0/8.
    pub address_pools: Vec<Ipv4Net>,
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
    /// What it has besides CPU and memory.
    #[serde(default)]
    pub generic: Vec<GenericResource>,
    /// Drivers that it has, by kind (`Log`, `Network`, `Volume`) and name.
    #[serde(default)]
    pub plugins: Vec<(String, String)>,
    /// What it trusts, and who issued its certificate.
    #[serde(default)]
    pub tls: Option<TlsInfo>,
    /// From when until when its certificate is valid.
    #[serde(default)]
    pub certificate: Option<(Time, Time)>,
    /// Its key for encrypted networks; none of versions that have no such networks.
    #[serde(default)]
    pub wireguard: Option<PublicKey>,
    /// Its own addresses of IPv6 that others may know it by, 16 at most; `None` if its containers have none: its kernel has no IPv6,
    /// or its version knows none.
    #[serde(default)]
    pub ipv6: Option<Vec<Ipv6Addr>>,
    /// The newest form of objects that its version reads, as [`FORM`]; 0 of versions that do not say.
    #[serde(default)]
    pub form: u32,
}

/// The newest form of objects that this version reads. Fields that a version does not know are kept beside their object; a value
/// of a field that it does not know, it cannot read at all. So what has such a value is written only when every node can read it
/// ([`NodeDescription::form`]). 1: [`crate::spec::Protocol::Sctp`].
pub const FORM: u32 = 1;

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

impl NodeState {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Ready => "ready",
            Self::Disconnected => "disconnected",
        }
    }
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
    /// Addresses on overlay networks that it holds for containers of its own that are no tasks.
    #[serde(default)]
    pub attached: HeldList,
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
            attached: HeldList::default(),
        }
    }

    /// Whether it takes new tasks.
    #[must_use]
    pub fn takes_tasks(&self) -> bool {
        self.state == NodeState::Ready && self.spec.availability == Availability::Active
    }
}

/// A network of swarm scope with what was allocated for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Its side of IPv6, if it has one; networks of versions before have none.
    #[serde(default)]
    pub v6: Option<V6Range>,
}

impl Network {
    /// How its addresses of both families belong together, if it has both.
    #[must_use]
    pub fn pairing(&self) -> Option<Pairing> {
        self.v6.map(|v6| Pairing { v4: self.subnet, gateway: self.gateway, v6 })
    }

    /// An address on it with, if it has both families, the one of IPv6 beside it.
    #[must_use]
    pub fn both(&self, addr: Ipv4Net) -> Vec<IpNet> {
        let six = self.pairing().and_then(|p| Some(Ipv6Net::new(p.six(addr.addr)?, p.v6.subnet.prefix)));
        [IpNet::from(addr)].into_iter().chain(six.map(IpNet::from)).collect()
    }
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
    /// Whether it replaces tasks now.
    #[must_use]
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }

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
    /// Slots that were to be replaced when it began, by which failures are measured; 0 if that is not known.
    #[serde(default)]
    pub slots: u64,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobStatus {
    /// How often the job was run before: raised by each update. Tasks of other iterations do not count.
    pub iteration: u64,
    /// When this iteration began.
    pub last_execution: Time,
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
    /// Set on jobs.
    #[serde(default)]
    pub job: Option<JobStatus>,
}

impl Service {
    /// A service of which nothing is allocated yet. A job begins its first iteration at `now`.
    #[must_use]
    pub fn new(id: ServiceId, spec: ServiceSpec, now: Time) -> Self {
        let job = spec.mode.is_job().then_some(JobStatus { iteration: 0, last_execution: now });
        Self {
            id,
            meta: Meta::default(),
            spec,
            revision: 1,
            previous_spec: None,
            ports: vec![],
            vips: vec![],
            update_status: None,
            job,
        }
    }

    /// Number of the iteration that its tasks belong to; `None` if it is no job.
    #[must_use]
    pub fn iteration(&self) -> Option<u64> {
        self.job.as_ref().map(|j| j.iteration)
    }

    /// What is wanted of a task of this service that shall live: to run, or, of a job, to end.
    #[must_use]
    pub fn goal(&self) -> TaskState {
        match self.spec.mode {
            ServiceMode::Replicated { .. } | ServiceMode::Global => TaskState::Running,
            ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => TaskState::Complete,
        }
    }
}
