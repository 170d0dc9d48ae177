//! Networks in the notation `address/prefix`, and pairs of them: a network of the swarm that has IPv6 has it beside IPv4.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 address with its prefix length (0..=32). Used both for a network (`10.0.1.0/24`) and for an address in it
/// (`10.0.1.5/24`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ipv4Net {
    /// The address.
    pub addr: Ipv4Addr,
    /// Length of the network part in bits.
    pub prefix: u8,
}

impl Ipv4Net {
    /// `addr/prefix`; a prefix above 32 counts as 32.
    #[must_use]
    pub fn new(addr: Ipv4Addr, prefix: u8) -> Self {
        Self { addr, prefix: prefix.min(32) }
    }

    /// The netmask as bits.
    #[must_use]
    pub fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// The network with its host bits cleared.
    #[must_use]
    pub fn network(&self) -> Self {
        Self { addr: Ipv4Addr::from(u32::from(self.addr) & self.mask()), prefix: self.prefix }
    }

    /// Last address of the network.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.addr) | !self.mask())
    }

    /// Whether the network holds `addr`.
    #[must_use]
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & self.mask() == u32::from(self.addr) & self.mask()
    }

    /// Whether two networks share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network().addr) || other.contains(self.network().addr)
    }

    /// The `n`-th address of the network (0 is the network's own), if it is inside.
    #[must_use]
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        let addr = Ipv4Addr::from(u32::from(self.network().addr).checked_add(n)?);
        self.contains(addr).then_some(addr)
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// A text that is not an IPv4 network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidNet(pub String);

impl FromStr for Ipv4Net {
    type Err = InvalidNet;
    fn from_str(text: &str) -> Result<Self, InvalidNet> {
        let bad = || InvalidNet(text.chars().take(64).collect());
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if prefix > 32 {
            return Err(bad());
        }
        Ok(Self { addr: addr.parse().map_err(|_| bad())?, prefix })
    }
}

/// An IPv6 address with its prefix length (0..=128), as [`Ipv4Net`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ipv6Net {
    /// The address.
    pub addr: Ipv6Addr,
    /// Length of the network part in bits.
    pub prefix: u8,
}

impl Ipv6Net {
    /// `addr/prefix`; a prefix above 128 counts as 128.
    #[must_use]
    pub fn new(addr: Ipv6Addr, prefix: u8) -> Self {
        Self { addr, prefix: prefix.min(128) }
    }

    /// The netmask as bits.
    #[must_use]
    pub fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// The network with its host bits cleared.
    #[must_use]
    pub fn network(&self) -> Self {
        Self { addr: Ipv6Addr::from(u128::from(self.addr) & self.mask()), prefix: self.prefix }
    }

    /// Whether the network holds `addr`.
    #[must_use]
    pub fn contains(&self, addr: Ipv6Addr) -> bool {
        u128::from(addr) & self.mask() == u128::from(self.addr) & self.mask()
    }

    /// Whether two networks share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network().addr) || other.contains(self.network().addr)
    }

    /// The `n`-th address of the network (0 is the network's own), if it is inside.
    #[must_use]
    pub fn nth(&self, n: u128) -> Option<Ipv6Addr> {
        let addr = Ipv6Addr::from(u128::from(self.network().addr).checked_add(n)?);
        self.contains(addr).then_some(addr)
    }

    /// A network for 2^64 hosts of RFC 4193's local range, by its 40 bits of "global id" and 16 bits of "subnet id".
    #[must_use]
    pub fn unique_local(global: u64, subnet: u16) -> Self {
        let high = 0xfd00_0000_0000_0000 | (global & 0xff_ffff_ffff) << 16 | u64::from(subnet);
        Self { addr: Ipv6Addr::from(u128::from(high) << 64), prefix: 64 }
    }
}

impl fmt::Display for Ipv6Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl FromStr for Ipv6Net {
    type Err = InvalidNet;
    fn from_str(text: &str) -> Result<Self, InvalidNet> {
        let bad = || InvalidNet(text.chars().take(64).collect());
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if prefix > 128 {
            return Err(bad());
        }
        Ok(Self { addr: addr.parse().map_err(|_| bad())?, prefix })
    }
}

/// A network, or an address in one, of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpNet {
    /// The address.
    pub addr: IpAddr,
    /// Length of the network part in bits: 32 or 128 at most.
    pub prefix: u8,
}

impl From<Ipv4Net> for IpNet {
    fn from(net: Ipv4Net) -> Self {
        Self { addr: net.addr.into(), prefix: net.prefix }
    }
}

impl From<Ipv6Net> for IpNet {
    fn from(net: Ipv6Net) -> Self {
        Self { addr: net.addr.into(), prefix: net.prefix }
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// The IPv6 side of a network that has both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct V6Range {
    /// Its subnet, which has at least as many addresses as the one of IPv4.
    pub subnet: Ipv6Net,
    /// Gateway in it.
    pub gateway: Ipv6Addr,
}

/// The two sides of a network of the swarm that has both families. Whoever has an address on it has the one of IPv4, which is
/// allocated, and beside it the one of IPv6 at the same place in the other subnet, which follows from that: so both come and go
/// together, and what holds for the one (nobody else has it) holds for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pairing {
    /// Subnet of IPv4.
    pub v4: Ipv4Net,
    /// Gateway in it.
    pub gateway: Ipv4Addr,
    /// The side of IPv6.
    pub v6: V6Range,
}

impl Pairing {
    /// Places of the two gateways. They belong to each other, wherever they are: their places are exchanged.
    fn gateways(&self) -> (u128, u128) {
        let four = u32::from(self.gateway).wrapping_sub(u32::from(self.v4.network().addr));
        let six = u128::from(self.v6.gateway).wrapping_sub(u128::from(self.v6.subnet.network().addr));
        (u128::from(four), six)
    }

    fn exchanged(&self, place: u128) -> u128 {
        let (four, six) = self.gateways();
        match place {
            p if p == four => six,
            p if p == six => four,
            p => p,
        }
    }

    /// The address of IPv6 that is beside one of IPv4; `None` if that is not in the subnet.
    #[must_use]
    pub fn six(&self, addr: Ipv4Addr) -> Option<Ipv6Addr> {
        if !self.v4.contains(addr) {
            return None;
        }
        let place = u32::from(addr) - u32::from(self.v4.network().addr);
        self.v6.subnet.nth(self.exchanged(u128::from(place)))
    }

    /// The address of IPv4 that one of IPv6 is beside; `None` if none is.
    #[must_use]
    pub fn four(&self, addr: Ipv6Addr) -> Option<Ipv4Addr> {
        let place = u128::from(addr).checked_sub(u128::from(self.v6.subnet.network().addr))?;
        self.v4.nth(u32::try_from(self.exchanged(place)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_their_members() {
        let net: Ipv4Net = "10.0.1.7/24".parse().expect("valid");
        assert_eq!(net.network().to_string(), "10.0.1.0/24");
        assert_eq!(net.broadcast().to_string(), "10.0.1.255");
        assert!(net.contains("10.0.1.200".parse().expect("valid")));
        assert!(!net.contains("10.0.2.1".parse().expect("valid")));
        assert_eq!(net.nth(256), None);
        assert!(net.overlaps(&"10.0.0.0/8".parse().expect("valid")));
        assert_eq!("0.0.0.0/0".parse::<Ipv4Net>().expect("valid").mask(), 0);
        assert!("10.0.0.0/33".parse::<Ipv4Net>().is_err());
    }

    #[test]
    fn networks_of_ipv6_know_their_members() {
        let net: Ipv6Net = "fd00:1::7/64".parse().expect("valid");
        assert_eq!(net.network().to_string(), "fd00:1::/64");
        assert!(net.contains("fd00:1::ffff".parse().expect("valid")) && !net.contains("fd00:1:0:1::".parse().expect("valid")));
        assert_eq!(net.nth(2).map(|a| a.to_string()).as_deref(), Some("fd00:1::2"));
        assert_eq!(net.nth(1 << 64), None);
        assert!(net.overlaps(&"fd00::/8".parse().expect("valid")));
        assert!("fd00::/129".parse::<Ipv6Net>().is_err() && "10.0.0.0/8".parse::<Ipv6Net>().is_err());
        assert_eq!(Ipv6Net::unique_local(0x12_3456_789a, 0xbcde).to_string(), "fd12:3456:789a:bcde::/64");
    }

    #[test]
    fn both_addresses_of_a_place_follow_from_each_other() {
        let pairing = |gateway6: &str| Pairing {
            v4: "10.0.1.0/24".parse().expect("valid"),
            gateway: Ipv4Addr::new(10, 0, 1, 1),
            v6: V6Range { subnet: "fd00:1::/64".parse().expect("valid"), gateway: gateway6.parse().expect("valid") },
        };
        let usual = pairing("fd00:1::1");
        assert_eq!(usual.six(Ipv4Addr::new(10, 0, 1, 254)).map(|a| a.to_string()).as_deref(), Some("fd00:1::fe"));
        assert_eq!(usual.six(Ipv4Addr::new(10, 0, 2, 3)), None);
        assert_eq!(usual.four("fd00:1::100".parse().expect("valid")), None, "beyond the places of the other side");
        for gateway6 in ["fd00:1::1", "fd00:1::7", "fd00:1::ff00", "fd00:1:0:0:8000::"] {
            let pairing = pairing(gateway6);
            let all: std::collections::BTreeSet<Ipv6Addr> =
                (0..256).filter_map(|n| pairing.v4.nth(n)).map(|a| pairing.six(a).expect("inside")).collect();
            assert_eq!(all.len(), 256, "each place has its own");
            for addr in (0..256).filter_map(|n| pairing.v4.nth(n)) {
                assert_eq!(pairing.four(pairing.six(addr).expect("inside")), Some(addr));
            }
            assert_eq!(pairing.six(pairing.gateway), Some(pairing.v6.gateway), "nobody but the gateway has the gateway's");
        }
    }
}
