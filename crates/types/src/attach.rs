//! Attachments: containers that are no tasks, on overlay networks of the swarm. A node asks for all that it wants at once, the
//! leader gives addresses and notes them at the node's own object; what the node does not name any more is released, and with the
//! node all of it. So nothing is ever held for a container that is gone.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::control::ControlError;
use crate::{Ipv4Net, NetworkId};

/// A container that wants to be on an overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its id, 64 hexadecimal digits.
    pub container: String,
    /// Id, name or unique id prefix of the network.
    pub network: String,
    /// Only this address will do.
    #[serde(default)]
    pub addr: Option<Ipv4Addr>,
    /// What it is called there, its name first.
    pub names: Vec<String>,
    /// Only this address of IPv6 will do.
    #[serde(default)]
    pub addr6: Option<Ipv6Addr>,
}

/// Everything that a node wants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WantedList {
    /// Raised with each list of the node, so that one which comes late does not count.
    pub number: u64,
    /// The containers, each once for each of its networks.
    pub wanted: Vec<Wanted>,
}

/// An address that a node holds for a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// Id of the container, 64 hexadecimal digits.
    pub container: String,
    /// The network.
    pub network: NetworkId,
    /// The address with the network's prefix.
    pub addr: Ipv4Net,
    /// What it is called there, its name first.
    pub names: Vec<String>,
}

/// Everything that a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct HeldList {
    /// Number of the [`WantedList`] that this follows.
    pub number: u64,
    /// The addresses.
    pub held: Vec<Held>,
}

/// What the leader says to a [`WantedList`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is noted: for each of the wanted, in order, what it has, or why it has nothing.
    Given {
        /// Number of the list.
        number: u64,
        /// The answers.
        given: Vec<Result<Held, ControlError>>,
    },
    /// A list with this number is noted already; the next one must have a higher one.
    Late {
        /// The number.
        noted: u64,
    },
}
