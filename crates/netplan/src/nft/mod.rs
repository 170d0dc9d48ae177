//! nftables as values: tables, typed sets and maps, chains, and rules as the kernel's own list of expressions.
//!
//! Registers are the kernel's sixteen 32-bit ones, `0..=15`. Keys and values are the bytes that those registers hold: fields in
//! order, each padded to four bytes. Nothing here checks that a rule makes sense; [`rule`] builds those that do.

use std::collections::BTreeMap;

pub mod delta;
pub mod rule;
pub mod words;

pub use delta::NftOp;

/// Protocol family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Hooks of one network device.
    Netdev,
}

/// Type of one field of a key or value. The kernel needs its length only; the number it stands for lets `nft list ruleset`
/// print the table (a wrong one makes it abort).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Ethernet address.
    Ether,
    /// Number of a transport protocol.
    Proto,
    /// Port, network order.
    Port,
    /// 32-bit number, host order.
    Mark,
    /// Name of a link, 16 bytes padded with zeros.
    IfName,
}

impl Field {
    /// Bytes without padding.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Proto => 1,
            Self::Port => 2,
            Self::Ipv4 | Self::Mark => 4,
            Self::Ether => 6,
            Self::Ipv6 | Self::IfName => 16,
        }
    }
}

/// What a set maps its keys to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetData {
    /// Nothing: a plain set.
    None,
    /// A verdict.
    Verdict,
    /// A value.
    Value(Vec<Field>),
}

/// What one element maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datum {
    /// Element of a plain set.
    None,
    /// Value as register bytes.
    Value(Vec<u8>),
    /// Verdict.
    Verdict(Verdict),
}

/// A named set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Fields of the key.
    pub key: Vec<Field>,
    /// What it maps to.
    pub data: SetData,
    /// Elements by key bytes.
    pub elements: BTreeMap<Vec<u8>, Datum>,
}

impl Set {
    /// An empty set or map.
    #[must_use]
    pub fn new(key: &[Field], data: SetData) -> Self {
        Self { key: key.to_vec(), data, elements: BTreeMap::new() }
    }

    /// Whether both have the same type, elements aside.
    #[must_use]
    pub fn same_type(&self, other: &Self) -> bool {
        self.key == other.key && self.data == other.data
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on, past the rest of this chain.
    Accept,
    /// Is discarded.
    Drop,
    /// Goes on in another chain and does not come back.
    Goto(String),
}

/// Type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Filtering and marks.
    Filter,
    /// Address translation, asked for the first packet of a connection.
    Nat,
}

/// Where a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
    /// Leaving a device (family netdev).
    Egress,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Type.
    pub kind: ChainKind,
    /// Place.
    pub point: HookPoint,
    /// Order among the chains of that place, lowest first.
    pub priority: i32,
    /// Device of a netdev chain.
    pub device: Option<String>,
}

/// A chain; a base chain's policy is accept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Absent: reached by verdicts only.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A rule.
pub type Rule = Vec<Expr>;

/// A table: named sets and chains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Others write rules into its chains: it is made where it is missing, and what is in it is left alone.
    pub shared: bool,
}

/// What an expression can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Name of the incoming link, 16 bytes.
    IifName,
    /// Name of the outgoing link, 16 bytes.
    OifName,
    /// Transport protocol, 1 byte.
    L4Proto,
    /// Packet mark.
    Mark,
    /// Connection state bits.
    CtState,
    /// Connection direction, 1 byte: 0 original, 1 reply.
    CtDirection,
    /// Connection status bits.
    CtStatus,
    /// Connection mark.
    CtMark,
    /// Source Ethernet address.
    EtherSaddr,
    /// Destination Ethernet address.
    EtherDaddr,
    /// IPv4 source.
    IpSaddr,
    /// IPv4 destination.
    IpDaddr,
    /// IPv6 source, 16 bytes.
    Ip6Saddr,
    /// IPv6 destination, 16 bytes.
    Ip6Daddr,
    /// Destination port.
    ThDport,
    /// Flags byte of a TCP header.
    TcpFlags,
    /// Kind of address that the destination is to this host (2: local).
    FibDaddrType,
    /// Largest TCP segment that the route allows, host order, 2 bytes.
    RtTcpMss,
    /// A random number below the given one.
    Random(u32),
}

/// What an expression can set from a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Packet mark.
    Mark,
    /// Connection mark.
    CtMark,
    /// Conntrack zone of the original direction.
    CtZoneOriginal,
    /// Destination Ethernet address.
    EtherDaddr,
    /// Maximum segment size option of a TCP header.
    TcpMss,
}

/// How a lookup ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The rule goes on if the key is in the set.
    Member,
    /// The rule goes on if it is not.
    NotMember,
    /// The value is put into a register; the rule ends if there is none.
    Value(u8),
    /// The verdict is followed; the rule ends if there is none.
    Verdict,
}

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Puts something into a register.
    Load(Load, u8),
    /// Goes on if the register holds these bytes (or, when `negate`, if not).
    Cmp {
        /// Register.
        reg: u8,
        /// Goes on if different.
        negate: bool,
        /// Bytes.
        value: Vec<u8>,
    },
    /// Masks a register.
    And {
        /// Register.
        reg: u8,
        /// Mask; its length is the number of bytes masked.
        mask: Vec<u8>,
    },
    /// Looks a register up in a set.
    Lookup {
        /// Name of the set.
        set: String,
        /// First register of the key.
        reg: u8,
        /// What then.
        found: Found,
    },
    /// Puts bytes into a register.
    Imm(u8, Vec<u8>),
    /// Host to network order of the 16-bit value in a register.
    Hton16(u8),
    /// Sets something from a register.
    Store(Store, u8),
    /// Changes the destination to the address (and port) in registers.
    Dnat {
        /// Register of the address.
        addr: u8,
        /// Register of the port.
        port: Option<u8>,
    },
    /// Changes the source to the address of the outgoing link.
    Masquerade,
    /// Belongs to no connection: nothing is remembered of it. Before connections are tracked only.
    NoTrack,
    /// Answers with a TCP reset.
    RejectReset,
    /// Answers with ICMP port unreachable.
    RejectPort,
    /// Answers with ICMP protocol unreachable, which only IPv4 has.
    RejectProtocol,
    /// Ends the rule.
    Verdict(Verdict),
}

/// Bytes of a key or value: fields in order, each padded to four bytes when there is more than one.
#[must_use]
pub fn bytes(fields: &[&[u8]]) -> Vec<u8> {
    if let [one] = fields {
        return one.to_vec();
    }
    let mut out = Vec::new();
    for field in fields {
        out.extend_from_slice(field);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// A link's name as register bytes.
#[must_use]
pub fn if_name(name: &str) -> Vec<u8> {
    let mut out = name.as_bytes().to_vec();
    out.resize(16, 0);
    out
}
