//! The two families of IP: what rules, sets and routes of one differ in from those of the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_types::IpNet;

use crate::nft::{Family, Field, Load};

/// A family of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// That of an address.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family of its tables.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::V4 => Family::Ip,
            Self::V6 => Family::Ip6,
        }
    }

    /// Type of its addresses in sets.
    #[must_use]
    pub fn field(self) -> Field {
        match self {
            Self::V4 => Field::Ipv4,
            Self::V6 => Field::Ipv6,
        }
    }

    /// A packet's source.
    #[must_use]
    pub fn source(self) -> Load {
        match self {
            Self::V4 => Load::IpSaddr,
            Self::V6 => Load::Ip6Saddr,
        }
    }

    /// A packet's destination.
    #[must_use]
    pub fn destination(self) -> Load {
        match self {
            Self::V4 => Load::IpDaddr,
            Self::V6 => Load::Ip6Daddr,
        }
    }

    /// Every address.
    #[must_use]
    pub fn everything(self) -> IpNet {
        match self {
            Self::V4 => IpNet { addr: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 },
            Self::V6 => IpNet { addr: Ipv6Addr::UNSPECIFIED.into(), prefix: 0 },
        }
    }

    /// The addresses that mean a host to itself.
    #[must_use]
    pub fn loopback(self) -> IpNet {
        match self {
            Self::V4 => IpNet { addr: Ipv4Addr::new(127, 0, 0, 0).into(), prefix: 8 },
            Self::V6 => IpNet { addr: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
        }
    }

    /// Bytes of its header and TCP's.
    #[must_use]
    pub fn tcp_headers(self) -> u32 {
        match self {
            Self::V4 => 40,
            Self::V6 => 60,
        }
    }
}

/// An address as register bytes.
#[must_use]
pub fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}
