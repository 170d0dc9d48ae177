//! The wanted (or applied) state of one network namespace, as plain values.
//!
//! Only what Skep owns is described: links it made, their addresses, its own nftables tables. What others made in the same
//! namespace is never mentioned here and so never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use skep_types::IpNet;
use skep_types::wireguard::PublicKey;

use crate::nft::{Family, Table};
use crate::version::Version;

/// A network namespace that Skep works in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ns {
    /// The daemon's own namespace; not necessarily the machine's first one.
    Host,
    /// The VXLAN device of one overlay network; named by the first 12 characters of its id.
    Overlay(String),
    /// A container's; named by the first 12 characters of its id.
    Sandbox(String),
    /// Another one, by the name of its file (the hosts of a playground).
    Named(String),
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Overlay(id) => write!(f, "ov-{id}"),
            Self::Sandbox(id) => write!(f, "ct-{id}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl Ns {
    /// That of an overlay network.
    #[must_use]
    pub fn of_overlay(network_id: &str) -> Self {
        Self::Overlay(network_id.chars().take(12).collect())
    }

    /// The inverse of `Display` for the namespaces that are pinned to files.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (kind, id) = name.split_once('-')?;
        match kind {
            "ov" => Some(Self::Overlay(id.to_owned())),
            "ct" => Some(Self::Sandbox(id.to_owned())),
            _ => None,
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that belongs to an IPv4 address everywhere in a swarm: `02:42` and its four bytes. Every node derives the same
    /// one, so it need not be told.
    #[must_use]
    pub fn of(addr: Ipv4Addr) -> Self {
        let [a, b, c, d] = addr.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Name of a link that is being made and has none of its own yet: one that a daemon leaves when it dies over it is removed by the next.
pub const UNNAMED: &str = "sk-new";

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A learning bridge.
    Bridge,
    /// A VXLAN device whose packets leave through the daemon's namespace, wherever the device itself lives. It learns nothing:
    /// its forwarding entries are given.
    Vxlan {
        /// VXLAN network identifier.
        id: u32,
        /// Source address of its packets.
        local: Ipv4Addr,
        /// UDP port.
        port: u16,
        /// It answers ARP and neighbour solicitations for its neighbours, and passes none on.
        answers: bool,
    },
    /// A layer 3 link that encrypts what goes to each of its peers ([`NetnsState::wireguard`]).
    WireGuard {
        /// UDP port of the encrypted packets, here and at the peers.
        port: u16,
    },
    /// One end of a pair; the other end is made in the same step, in another namespace.
    Veth {
        /// Where the other end goes.
        peer_ns: Ns,
        /// Its name there.
        peer_name: String,
        /// Its address.
        peer_mac: Mac,
    },
    /// A part of a link of another namespace with an Ethernet or IP address of its own. It ends with that link.
    Child {
        /// Where that link is.
        ns: Ns,
        /// Name of that link; empty when it was read, since it is in another namespace.
        parent: String,
        /// How it shares.
        kind: ChildKind,
    },
    /// What a link carries with this tag of IEEE 802.1Q.
    Vlan {
        /// Name of the link.
        parent: String,
        /// The tag, 1 to 4094.
        id: u16,
    },
    /// Made by something else (the other end of a pair, the loopback device): configured, never created or deleted.
    Given,
}

impl LinkKind {
    /// Whether one that was read is what this says, as far as can be read.
    #[must_use]
    pub fn is(&self, found: &Self) -> bool {
        match (self, found) {
            (Self::Given, _) | (Self::Veth { .. }, Self::Veth { .. }) => true,
            (Self::Child { kind, .. }, Self::Child { kind: other, .. }) => kind == other,
            (Self::Vlan { id, .. }, Self::Vlan { id: other, .. }) => id == other,
            // its port is set again
            (Self::WireGuard { .. }, Self::WireGuard { .. }) => true,
            (one, other) => one == other,
        }
    }
}

/// How a link is shared, and among whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildKind {
    /// Each has an Ethernet address of its own.
    Macvlan(MacvlanMode),
    /// All have the link's Ethernet address.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// What passes between the children of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    /// All, directly.
    Bridge,
    /// Nothing.
    Private,
    /// What the switch at the link sends back.
    Vepa,
    /// There is one child, which has the link to itself.
    Passthru,
}

/// Where the link's packets are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    /// As on one Ethernet.
    L2,
    /// By routes: no broadcasts.
    L3,
    /// The same, through the host's firewall.
    L3s,
}

/// As [`MacvlanMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanFlag {
    /// All, directly.
    Bridge,
    /// Nothing.
    Private,
    /// What the switch sends back.
    Vepa,
}

/// How a bridge treats a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PortMode {
    /// A usual port.
    #[default]
    Usual,
    /// Reaches the bridge itself and not its other isolated ports (no inter-container communication).
    Isolated,
    /// Carries known unicast only: no learning, no flooding, and ARP is answered from the bridge's neighbour table.
    Static,
}

/// A link. Every link that is wanted is wanted up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Bytes of payload; `None` leaves it alone.
    pub mtu: Option<u32>,
    /// Ethernet address; `None` leaves it alone.
    pub mac: Option<Mac>,
    /// Bridge that it is a port of.
    pub master: Option<String>,
    /// Meaningful with a master only.
    pub mode: PortMode,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Name of the link.
    pub dev: String,
    /// Address with the prefix of its network.
    pub net: IpNet,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Routing table; 254 is the main one. In 255, the local one, `dest` is an address that this host answers to on that link.
    pub table: u32,
    /// Where to; `0.0.0.0/0` and `::/0` are the default routes.
    pub dest: IpNet,
    /// Next hop, of the same family.
    pub gateway: Option<IpAddr>,
    /// Name of the link.
    pub dev: String,
    /// The next hop need not be on a network of the link.
    pub onlink: bool,
}

/// A routing rule that selects a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Place among the rules: the lowest is asked first.
    pub priority: u32,
    /// Of which family.
    pub version: Version,
    /// For which packets.
    pub of: Selector,
    /// Routing table to ask.
    pub table: u32,
}

/// Packets that a routing rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Those with this mark.
    Mark {
        /// Value of the masked mark.
        mark: u32,
        /// Bits that count.
        mask: u32,
    },
    /// This host's own, to this UDP port.
    OwnUdp(u16),
}

/// Where a VXLAN device finds an Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// Underlay address of the node.
    pub dst: Ipv4Addr,
    /// Whether the bridge, too, is told that the address is behind this port.
    pub bridged: bool,
}

/// Everything of ours in one network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetnsState {
    /// Links by name (at most 15 bytes).
    pub links: BTreeMap<String, Link>,
    /// Addresses.
    pub addresses: BTreeSet<Address>,
    /// Routes, without those that an address brings along.
    pub routes: BTreeSet<Route>,
    /// Routing rules.
    pub rules: BTreeSet<Rule>,
    /// Permanent neighbours by link and address.
    pub neighbours: BTreeMap<(String, IpAddr), Mac>,
    /// Forwarding entries of VXLAN links by link and Ethernet address.
    pub fdb: BTreeMap<(String, Mac), FdbEntry>,
    /// Peers of WireGuard links, by link and address: the peer's end of the tunnel, and all that may be sent through it.
    pub wireguard: BTreeMap<(String, Ipv4Addr), PublicKey>,
    /// Files below `/proc/sys`, by relative path. One that does not exist is passed over.
    pub sysctls: BTreeMap<String, String>,
    /// nftables tables.
    pub tables: BTreeMap<(Family, String), Table>,
}
