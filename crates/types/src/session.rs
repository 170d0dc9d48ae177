//! What agents and managers tell each other on an agent's session stream. Fields and variants are only ever added, at the end or
//! with a default.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attach::{Answer, WantedList};
use crate::control::{Assignment, KnownTask, StatusReport};
use crate::file::StoredFile;
use crate::spec::{Availability, Role};
use crate::{FileId, NodeId, TaskId};

/// From an agent to a manager, on its session stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AgentMessage {
    /// First message: who and where.
    Hello {
        /// What the host is.
        description: crate::object::NodeDescription,
        /// Its data path address.
        addr: Option<Ipv4Addr>,
        /// Wanted availability, used when the node registers for the first time.
        availability: Availability,
        /// Assignments it has from an earlier session: only differences from them are sent. Empty if there was none, or it is
        /// not sure of them.
        #[serde(default)]
        known: Vec<KnownTask>,
        /// Digest of the data plane it has; 0 if none.
        #[serde(default)]
        plane: u64,
        /// Secrets and configs that it has.
        #[serde(default)]
        files: Vec<FileId>,
        /// Whether it knows [`ManagerMessage::Tunnel`]; an agent of the version before would drop its session over one.
        #[serde(default)]
        tunnels: bool,
        /// Whether it knows [`ManagerMessage::FileRefused`]; one of the version before waits in vain, and says so.
        #[serde(default)]
        refusals: bool,
    },
    /// The host changed (or is as it was).
    Description(crate::object::NodeDescription),
    /// Still alive.
    Heartbeat,
    /// Newest statuses; answered by [`ManagerMessage::Acknowledged`] with the same number after their commit.
    Statuses {
        /// Number of this batch on this stream.
        batch: u64,
        /// At most 1,000 reports.
        reports: Vec<StatusReport>,
    },
    /// The host leaves on purpose.
    Goodbye,
    /// Answer to [`ManagerMessage::Follow`]: the network is as it was told.
    Followed {
        /// The index in the question.
        index: u64,
    },
    /// What this node wants for containers that are no tasks; answered by [`ManagerMessage::Attached`].
    Attach(WantedList),
}

/// From a manager to an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ManagerMessage {
    /// The session stands.
    Welcome {
        /// How often the agent must be heard.
        heartbeat: Duration,
    },
    /// This manager does not hear the leader: turn to another one.
    Redirect {
        /// `ip:port` of the leader, if one is known.
        leader: Option<String>,
    },
    /// Managers to turn to later: (node id, `ip:port`).
    Managers(Vec<(NodeId, String)>),
    /// Everything that this node must run; tasks not named must go.
    Complete {
        /// All assignments.
        assignments: Vec<Assignment>,
    },
    /// Changes since the last message, or, as the first one of a session, since what the agent brought along.
    Changes {
        /// New or changed.
        put: Vec<Assignment>,
        /// To be removed, container included.
        remove: Vec<TaskId>,
    },
    /// A secret or config that a task of this node needs, before the task is told of. Kept in memory only.
    File(Arc<StoredFile>),
    /// Secrets and configs that no task of this node needs any more.
    ForgetFiles(Vec<FileId>),
    /// The network, whole.
    DataPlane(Box<crate::dataplane::DataPlane>),
    /// Tell when the network is as it was told so far.
    Follow {
        /// Index of the last transaction that this agent was told of.
        index: u64,
    },
    /// The networks of all nodes within reach follow the tables up to here: what was taken out of service before gets no new
    /// requests any more.
    Drained {
        /// Index of a transaction.
        index: u64,
    },
    /// A batch of statuses is committed.
    Acknowledged {
        /// Its number.
        batch: u64,
    },
    /// Logs of tasks of this node are wanted at a manager.
    Logs(Box<crate::logs::LogAsk>),
    /// The node's own record: its role changed, so its certificate must be renewed.
    RoleChanged {
        /// The role to take.
        role: Role,
    },
    /// Still alive.
    Heartbeat,
    /// The node was removed from the swarm; the agent must stop.
    Removed,
    /// The root to trust from now on.
    Roots {
        /// PEM.
        pem: String,
    },
    /// The certificate must be renewed now: its issuer is on the way out.
    RenewCertificate,
    /// Answer to [`AgentMessage::Attach`].
    Attached(Answer),
    /// A client of a manager wants a task's container; only for agents that said in their hello that they know this.
    Tunnel(Box<crate::tunnel::TunnelAsk>),
    /// A secret that a task of this node needs cannot be had from its driver; only for agents that said that they know this.
    FileRefused {
        /// The task.
        task: TaskId,
        /// The secret.
        file: FileId,
        /// Why, in words.
        why: String,
    },
}
