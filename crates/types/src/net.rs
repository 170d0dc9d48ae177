//! IPv4 networks in the notation `address/prefix`.

use std::fmt;
use std::net::Ipv4Addr;
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
}
