//! What a host's network is like: what its kernel has, how that differs from what it should have, and what follows, in words.
//! Made where it was looked at; shown by the API and by `skep network doctor`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::NodeId;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing; nothing fails for it.
    Note,
    /// Something does not work, or will not.
    Fault,
}

impl Level {
    /// `ok`, `note` or `fault`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Fault => "fault",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is about: `tables`, `underlay`, `managers`, `firewall`, `kernel`.
    pub about: &'static str,
    /// The other node that it is about, if there is one.
    pub peer: Option<NodeId>,
    /// In words, with what to do.
    pub text: String,
}

/// One network namespace: what the kernel has, of what is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpaceReport {
    /// `host`, `ov-<network>` or `ct-<container>`.
    pub name: String,
    /// Links in words.
    pub links: BTreeMap<String, String>,
    /// Permanent neighbours: `address dev link` → Ethernet address.
    pub neighbours: BTreeMap<String, String>,
    /// Forwarding entries of VXLAN links: `address dev link` → address of the node.
    pub forwarding: BTreeMap<String, String>,
    /// Sets and maps of our tables of nftables: `family table set` → key → value.
    pub sets: BTreeMap<String, BTreeMap<String, String>>,
    /// Chains of our tables: `family table chain` → number of rules.
    pub chains: BTreeMap<String, usize>,
    /// Where that is not what should be, in words; also why nothing could be read.
    pub differences: Vec<String>,
}

/// What a container's resolver answers on one network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamesReport {
    /// Id of the container.
    pub container: String,
    /// Name of the network.
    pub network: String,
    /// Addresses by name.
    pub names: BTreeMap<String, Vec<IpAddr>>,
}

/// A host's network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkReport {
    /// The node that the host is, in a swarm.
    pub node: Option<NodeId>,
    /// Its address on the underlay.
    pub addr: Option<Ipv4Addr>,
    /// Payload size of the underlay.
    pub mtu: u32,
    /// Features of the kernel, and whether they are there.
    pub features: BTreeMap<String, bool>,
    /// Its namespaces.
    pub spaces: Vec<SpaceReport>,
    /// Its containers' resolvers.
    pub names: Vec<NamesReport>,
    /// What follows. Empty in a mere dump.
    pub findings: Vec<Finding>,
}
