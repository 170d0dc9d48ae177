//! A way from a client of a manager to one task's container, wherever that is: a manager asks the node, its agent opens a stream to that
//! manager, and on it the Engine API is spoken, of this one container; or of the node's network, which can be looked at there.

use serde::{Deserialize, Serialize};

use crate::file::Bytes;
use crate::{LogId, TaskId};

/// What a manager wants of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelAsk {
    /// Drawn at random; the stream begins with it.
    pub id: LogId,
    /// Where the stream is to go, `ip:port`.
    pub manager: String,
    /// The node's task; means nothing with [`TunnelAsk::network`].
    pub task: TaskId,
    /// Not a task's container but what the host's network is like. A version that does not know this finds no such task.
    #[serde(default)]
    pub network: bool,
}

/// What goes either way on such a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelMessage {
    /// First, from the agent: what this is the answer to.
    Begin {
        /// [`TunnelAsk::id`]
        ask: LogId,
    },
    /// Bytes of the connection.
    Data(Bytes),
    /// This side has nothing more to say; it still listens.
    End,
}
