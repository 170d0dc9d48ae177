//! What operators ask for: specs of clusters, nodes, services and networks.
//!
//! Field meanings and defaults: `swarm-semantics` 1.5 and 2.4. Durations are [`std::time::Duration`], memory is bytes, CPU is
//! nano-CPUs (one core is 1,000,000,000).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Ipv4Net, Ipv6Net, NetworkId, Secret};

mod container;

pub use container::{ContainerSpec, DnsConfig, Mount, MountKind, Seccomp, SelinuxContext, Ulimit};

/// Labels of any object.
pub type Labels = BTreeMap<String, String>;

/// What a node is, by its certificate and by the operator's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub enum Role {
    /// Runs tasks.
    #[default]
    Worker,
    /// Runs tasks and takes part in the cluster's decisions.
    Manager,
}

impl Role {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        }
    }
}

/// Whether a node takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub enum Availability {
    /// Takes new tasks.
    #[default]
    Active,
    /// Keeps what it runs, takes nothing new.
    Pause,
    /// Gives its tasks away.
    Drain,
}

impl Availability {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }
}

/// What an operator wants of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeSpec {
    /// Optional name; host names serve as names when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Labels for constraints (`node.labels.*`).
    #[serde(default)]
    pub labels: Labels,
    /// Desired role.
    pub role: Role,
    /// Whether it takes tasks.
    pub availability: Availability,
}

/// Settings of the whole swarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Tasks kept per slot, the live one included; negative keeps all. Default 5.
    pub task_history_limit: i64,
    /// Period of the agents' heartbeats as shown to clients. Default 5 s; failure detection is faster (see `manager`).
    pub heartbeat_period: Duration,
    /// Lifetime of node certificates. Default 90 days, minimum one hour.
    pub node_cert_expiry: Duration,
    /// Raft entries between snapshots. Default 10,000.
    pub snapshot_interval: u64,
    /// Older snapshots that each manager keeps besides the current one, for whoever wants to look back. Default 0.
    #[serde(default)]
    pub old_snapshots: u8,
    /// Managers keep their keys sealed on disk and need the unlock key after a restart (`swarm-semantics` 6.5).
    #[serde(default)]
    pub auto_lock: bool,
    /// What the operator wants of the root.
    #[serde(default)]
    pub ca: CaSpec,
}

/// What the operator wants of the swarm's root certificate (`swarm-semantics` 6.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CaSpec {
    /// Root certificate to use from now on, PEM; empty keeps the one in use. In requests only: never stored here, never shown.
    #[serde(default)]
    pub signing_cert: String,
    /// Its key, PEM. As `signing_cert`.
    #[serde(default)]
    pub signing_key: Secret,
    /// Raised to have a new root made.
    #[serde(default)]
    pub force_rotate: u64,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            labels: Labels::new(),
            task_history_limit: 5,
            heartbeat_period: Duration::from_secs(5),
            node_cert_expiry: Duration::from_secs(90 * 24 * 3600),
            snapshot_interval: 10_000,
            old_snapshots: 0,
            auto_lock: false,
            ca: CaSpec::default(),
        }
    }
}

/// A service as its operator describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Unique name; a DNS label of at most 63 characters.
    pub name: String,
    /// Labels of the service.
    #[serde(default)]
    pub labels: Labels,
    /// How many tasks.
    pub mode: ServiceMode,
    /// What each task runs.
    pub task: TaskSpec,
    /// How to change running tasks; absent means the defaults of [`UpdateConfig`].
    #[serde(default)]
    pub update: Option<UpdateConfig>,
    /// How to roll back; absent means the defaults.
    #[serde(default)]
    pub rollback: Option<UpdateConfig>,
    /// Names and published ports.
    #[serde(default)]
    pub endpoint: EndpointSpec,
}

/// How many tasks a service has, and whether they are to end. The kind never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceMode {
    /// A number of interchangeable replicas.
    Replicated {
        /// How many.
        replicas: u64,
    },
    /// One task on each node that fits.
    Global,
    /// Tasks that are to end, until so many have.
    ReplicatedJob {
        /// Most tasks at a time.
        max_concurrent: u64,
        /// How many must end with exit code 0.
        total_completions: u64,
    },
    /// One task that is to end on each node that fits.
    GlobalJob,
}

impl ServiceMode {
    /// Number of replicas of a replicated service; 0 for the other kinds.
    #[must_use]
    pub fn replicas(&self) -> u64 {
        match self {
            Self::Replicated { replicas } => *replicas,
            _ => 0,
        }
    }

    /// The kind as the CLI names it: `replicated`, `global`, `replicated-job`, `global-job`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob { .. } => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }

    /// Tasks belong to nodes, one each.
    #[must_use]
    pub fn is_global(&self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }

    /// Tasks are to end.
    #[must_use]
    pub fn is_job(&self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }
}

/// What a task runs and under which rules. A change of this (or of the endpoint) replaces running tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TaskSpec {
    /// The container.
    pub container: ContainerSpec,
    /// Limits and reservations.
    #[serde(default)]
    pub resources: Resources,
    /// When a dead task is replaced.
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    /// Where it may run.
    #[serde(default)]
    pub placement: Placement,
    /// Networks it is attached to.
    #[serde(default)]
    pub networks: Vec<NetworkAttachmentSpec>,
    /// Counter that makes every task dirty when raised (`service update --force`).
    #[serde(default)]
    pub force_update: u64,
    /// Registry credentials for the nodes' pulls, as sent in `X-Registry-Auth`; never shown.
    #[serde(default)]
    pub registry_auth: Option<String>,
    /// Log driver, if one is asked for; only nodes that have it are used.
    #[serde(default)]
    pub log_driver: Option<String>,
    /// Its options.
    #[serde(default)]
    pub log_options: BTreeMap<String, String>,
}

/// Limits and reservations. Zero means none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Resources {
    /// CPU limit in nano-CPUs.
    #[serde(default)]
    pub limit_nano_cpus: u64,
    /// Memory limit in bytes.
    #[serde(default)]
    pub limit_memory: u64,
    /// Limit of processes.
    #[serde(default)]
    pub limit_pids: u64,
    /// CPU reserved, in nano-CPUs, for placement.
    #[serde(default)]
    pub reserve_nano_cpus: u64,
    /// Memory reserved in bytes, for placement.
    #[serde(default)]
    pub reserve_memory: u64,
    /// Generic resources reserved: how many of each kind.
    #[serde(default)]
    pub reserve_generic: BTreeMap<String, u64>,
}

/// Something that a node has besides CPU and memory (`swarm-semantics` 5.6). A kind is either counted or named, never both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GenericResource {
    /// So many of a kind.
    Discrete {
        /// The kind, for example `SSD`.
        kind: String,
        /// How many.
        count: u64,
    },
    /// One of a kind.
    Named {
        /// The kind, for example `GPU`.
        kind: String,
        /// Which, for example `UUID1`.
        id: String,
    },
}

impl GenericResource {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Discrete { kind, .. } | Self::Named { kind, .. } => kind,
        }
    }
}

/// When a dead task is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum RestartCondition {
    /// Never.
    None,
    /// When it ended other than with exit code 0.
    OnFailure,
    /// Always.
    #[default]
    Any,
}

/// Restart policy (`swarm-semantics` 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// When.
    pub condition: RestartCondition,
    /// Wait before the replacement runs. Default 5 s.
    pub delay: Duration,
    /// Replacements per slot and spec revision; 0 is unlimited.
    pub max_attempts: u64,
    /// Only attempts in this window count; 0 counts all.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { condition: RestartCondition::Any, delay: Duration::from_secs(5), max_attempts: 0, window: Duration::ZERO }
    }
}

/// Where tasks may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Placement {
    /// Expressions such as `node.role == manager`, all of which must hold.
    #[serde(default)]
    pub constraints: Vec<String>,
    /// Most tasks of the service on one node; 0 is unlimited.
    #[serde(default)]
    pub max_replicas: u64,
    /// Platforms of the image as (os, architecture); an empty list or field allows any.
    #[serde(default)]
    pub platforms: Vec<(String, String)>,
    /// Labels over whose values tasks are spread, `node.labels.zone` or `engine.labels.rack`: the first divides the nodes, the
    /// next each part again. Best effort.
    #[serde(default)]
    pub preferences: Vec<String>,
}

/// Attachment of a service to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachmentSpec {
    /// The network, resolved to its id when the spec was accepted.
    pub target: NetworkId,
    /// Additional names of the service on it.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// What to do when an update fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum FailureAction {
    /// Stop updating.
    #[default]
    Pause,
    /// Go on.
    Continue,
    /// Return to the previous spec.
    Rollback,
}

/// Which comes first in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum UpdateOrder {
    /// The old task stops before the new one starts.
    #[default]
    StopFirst,
    /// The new task runs before the old one stops.
    StartFirst,
}

/// How running tasks are replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// Slots at a time; 0 means all. Default 1.
    pub parallelism: u64,
    /// Wait after each slot.
    pub delay: Duration,
    /// What to do on failure.
    pub failure_action: FailureAction,
    /// How long a new task is watched for failure. Default 5 s.
    pub monitor: Duration,
    /// Failures tolerated, 0..=1.
    pub max_failure_ratio: f32,
    /// Which comes first.
    pub order: UpdateOrder,
}

impl Eq for UpdateConfig {}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_ratio: 0.0,
            order: UpdateOrder::StopFirst,
        }
    }
}

/// How a service's name is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum EndpointMode {
    /// One virtual address per network.
    #[default]
    Vip,
    /// The addresses of the tasks.
    Dnsrr,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP. A version that does not know it cannot read what names it: see [`crate::object::FORM`].
    Sctp,
}

impl Protocol {
    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| p.as_str() == name)
    }

    /// `tcp`, `udp` or `sctp`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Where a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum PublishMode {
    /// On every node of the swarm.
    #[default]
    Ingress,
    /// On the nodes that run a task.
    Host,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortConfig {
    /// Optional name.
    #[serde(default)]
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the container, 1..=65535.
    pub target: u16,
    /// Port outside; 0 lets the swarm choose one from 30000..=32767.
    #[serde(default)]
    pub published: u16,
    /// Where.
    #[serde(default)]
    pub mode: PublishMode,
    /// Address of a node at which alone it is answered; any address when absent. An option of Skep's own.
    #[serde(default)]
    pub host_ip: Option<Ipv4Addr>,
}

/// Names and ports of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct EndpointSpec {
    /// How the name is answered.
    pub mode: EndpointMode,
    /// Published ports.
    #[serde(default)]
    pub ports: Vec<PortConfig>,
}

/// A network of swarm scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Unique name.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Subnet; the next free one of the pool when absent.
    #[serde(default)]
    pub subnet: Option<Ipv4Net>,
    /// Gateway; the first address when absent.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// No way out of the network.
    #[serde(default)]
    pub internal: bool,
    /// Plain containers may join.
    #[serde(default)]
    pub attachable: bool,
    /// The network of the published ports; there is one.
    #[serde(default)]
    pub ingress: bool,
    /// Driver options as given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Addresses of IPv6 beside those of IPv4.
    #[serde(default)]
    pub ipv6: bool,
    /// Subnet of IPv6; one of the swarm's own local range when absent.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// Gateway in it; the first address when absent.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
}

impl NetworkSpec {
    /// Whether packets between nodes are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.options.contains_key(crate::wireguard::OPTION)
    }
}
