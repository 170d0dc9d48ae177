//! Tasks: one attempt to run one replica each.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::object::Meta;
use crate::spec::{GenericResource, PortConfig};
use crate::{Ipv4Net, NetworkId, NodeId, ServiceId, TaskId, Time};

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
    pub message: CompactString,
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
    pub service_name: CompactString,
    /// Slot, from 1; of a replicated job from 0. 0 for tasks that belong to a node.
    pub slot: u64,
    /// It belongs to its node (global services and jobs): no other will do, and `node` is set from the beginning.
    #[serde(default)]
    pub pinned: bool,
    /// Iteration of the job that it was made for.
    #[serde(default)]
    pub iteration: Option<u64>,
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
    /// A replacement with desired state `ready` is released no earlier than this (restart and update delays). Once it is, when
    /// it was: what it waited for the task before it is not held against it.
    #[serde(default)]
    pub not_before: Option<Time>,
    /// When it was first seen running; failures within the monitor period count against an update.
    #[serde(default)]
    pub running_since: Option<Time>,
    /// Ports to be published on its own node, as the spec that it runs says.
    #[serde(default)]
    pub host_ports: Vec<PortConfig>,
    /// Generic resources of its node that are its own.
    #[serde(default)]
    pub generic: Vec<GenericResource>,
    /// The update that made it, by the time when that began: it is by these tasks that an update is judged.
    #[serde(default)]
    pub update: Option<Time>,
    /// Why the managers gave it up, if they did; shown when the task itself tells no error.
    #[serde(default)]
    pub given_up: Option<String>,
    /// How many tasks before it in its place crashed in a row, if its service's restarts are delayed the longer for it.
    #[serde(default)]
    pub crashes: u32,
    /// It takes over from a task on a node that is drained by update order, and does not run yet.
    #[serde(default)]
    pub takes_over: bool,
}

/// Which of its service's places a task fills: a number, or, for tasks that belong to nodes, the node. A service has only one
/// kind of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey(pub u128);

impl SlotKey {
    /// A numbered place.
    #[must_use]
    pub fn number(n: u64) -> Self {
        Self(u128::from(n))
    }

    /// The place on a node.
    #[must_use]
    pub fn node(id: NodeId) -> Self {
        Self(id.0)
    }
}

impl Task {
    /// A task without addresses or node, of revision 1, that shall run.
    #[must_use]
    pub fn new(id: TaskId, service: ServiceId, service_name: &str) -> Self {
        Self {
            id,
            meta: Meta::default(),
            service,
            service_name: service_name.into(),
            slot: 0,
            pinned: false,
            iteration: None,
            revision: 1,
            node: None,
            desired: TaskState::Running,
            status: TaskStatus::default(),
            networks: vec![],
            not_before: None,
            running_since: None,
            host_ports: vec![],
            generic: vec![],
            update: None,
            given_up: None,
            crashes: 0,
            takes_over: false,
        }
    }

    /// Which place of its service it fills.
    #[must_use]
    pub fn slot_key(&self) -> SlotKey {
        match self.node {
            Some(n) if self.pinned => SlotKey::node(n),
            _ => SlotKey::number(self.slot),
        }
    }

    /// `service.slot` or `service.node`, as tasks are named to users.
    #[must_use]
    pub fn name(&self) -> String {
        match self.node {
            Some(n) if self.pinned => format!("{}.{n}", self.service_name),
            _ => format!("{}.{}", self.service_name, self.slot),
        }
    }

    /// `service.slot.id` or `service.node.id`, the name of its container.
    #[must_use]
    pub fn container_name(&self) -> String {
        use std::fmt::Write;
        // At once as long as it gets: the managers make the names of all tasks of a network at each of its changes.
        let mut out = String::with_capacity(self.service_name.len() + 2 * 26 + 1);
        let _ = match self.node {
            Some(n) if self.pinned => write!(out, "{}.{n}.{}", self.service_name, self.id),
            _ => write!(out, "{}.{}.{}", self.service_name, self.slot, self.id),
        };
        out
    }

    /// It is meant to live: to run, or to end by itself.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.desired <= TaskState::Complete
    }
}
