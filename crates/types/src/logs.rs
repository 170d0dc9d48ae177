//! Logs of tasks on their way from the nodes to a client (`swarm-semantics` 11): a manager asks the nodes, each node's agent opens
//! a stream to that manager.

use serde::{Deserialize, Serialize};

use crate::host::{LogOptions, LogRecord};
use crate::{LogId, NodeId, ServiceId, TaskId};

/// Whose logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Of all tasks of a service: full id, exact name, or unique id prefix.
    Service(String),
    /// Of one task.
    Task(String),
}

/// What a manager wants of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogAsk {
    /// Drawn at random; the stream begins with it.
    pub id: LogId,
    /// Where the stream is to go, `ip:port`.
    pub manager: String,
    /// The node's tasks.
    pub tasks: Vec<TaskId>,
    /// Which records of each.
    pub options: LogOptions,
}

/// What a node's agent sends on such a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogMessage {
    /// First: what this is the answer to.
    Begin {
        /// [`LogAsk::id`]
        ask: LogId,
    },
    /// Records, those of one task in their order.
    Records(Vec<(TaskId, LogRecord)>),
    /// All there is, or, of logs that are followed, all that there will be.
    Done,
}

/// What a client's stream consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A record.
    Record {
        /// Where the task is.
        node: NodeId,
        /// Its service.
        service: ServiceId,
        /// The task.
        task: TaskId,
        /// The record.
        record: LogRecord,
    },
    /// Last: some logs are missing, and why.
    Incomplete(String),
}
