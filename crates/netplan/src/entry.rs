//! At which addresses a container is reached through other entry nodes of the mesh.
//!
//! The mesh keeps the client's address and port. A client that calls several nodes may use one port for all of them, and what are
//! different connections to it would be one and the same to a task that they all lead to: the kernel would give one of them another
//! port, forget that once the connection is closed and opened anew, and the task would refuse later ones for a minute (`TIME_WAIT`)
//! since the client's clock of the one connection (RFC 7323) says nothing of the other. So TCP reaches the container at an address for
//! each entry node, or for few of them: its own range, which leads to it alone, is derived from its address on the way out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_types::IpNet;

/// Bits of an address that tell entry nodes apart. Two nodes that agree in them share an address in each container; more bits would
/// cost more elements in the tables of a large swarm.
const BITS: u8 = 5;
/// Where the ranges lie: no network has addresses in the reserved block of IPv4 (RFC 1112, 4) …
const BLOCK: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 0);
/// … or in this one of the local range (RFC 4193), whose digits were drawn at random.
const BLOCK6: Ipv6Addr = Ipv6Addr::new(0xfdb1, 0x7e4c, 0x93d6, 0x5ce0, 0, 0, 0, 0);

/// The bits that tell entry nodes apart, as they are in the last byte of their ingress and Ethernet addresses.
pub(crate) const MASK: u8 = (1 << BITS) - 1;

/// Where an entry node's packets go.
#[must_use]
pub(crate) fn group(ingress: Ipv4Addr) -> u8 {
    let [.., last] = ingress.octets();
    last & MASK
}

/// Whether that is such a range, whoever's.
#[must_use]
pub fn is_range(net: IpNet) -> bool {
    match net.addr {
        IpAddr::V4(addr) => net.prefix == 32 - BITS && u32::from(addr) & u32::from(BLOCK) == u32::from(BLOCK),
        IpAddr::V6(addr) => net.prefix == 128 - BITS && u128::from(addr) >> 64 == u128::from(BLOCK6) >> 64,
    }
}

/// All of a container's addresses, from its own on the way out.
#[must_use]
pub(crate) fn range(own: IpAddr) -> IpNet {
    match at(own, 0) {
        addr @ IpAddr::V4(_) => IpNet { addr, prefix: 32 - BITS },
        addr @ IpAddr::V6(_) => IpNet { addr, prefix: 128 - BITS },
    }
}

/// The one for a group of entry nodes.
#[must_use]
pub(crate) fn at(own: IpAddr, group: u8) -> IpAddr {
    let group = group & MASK;
    match own {
        // The 23 bits after the network's, whose prefix is longer than that in any pool.
        IpAddr::V4(own) => {
            let host = (u32::from(own) << BITS) & !u32::from(BLOCK);
            Ipv4Addr::from(u32::from(BLOCK) | host | u32::from(group)).into()
        }
        IpAddr::V6(own) => {
            let host = (u128::from(own) << BITS) & u128::from(u64::MAX);
            Ipv6Addr::from(u128::from(BLOCK6) | host | u128::from(group)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use skep_types::{Ipv4Net, Ipv6Net};

    use super::*;

    fn inside(net: IpNet, addr: IpAddr) -> bool {
        match (net.addr, addr) {
            (IpAddr::V4(net4), IpAddr::V4(addr)) => Ipv4Net::new(net4, net.prefix).contains(addr),
            (IpAddr::V6(net6), IpAddr::V6(addr)) => Ipv6Net::new(net6, net.prefix).contains(addr),
            _ => false,
        }
    }

    #[test]
    fn each_container_and_group_has_an_address_of_its_own() {
        let own: Vec<IpAddr> = (0..200u8)
            .flat_map(|n| {
                let four = [Ipv4Addr::new(172, 18, 0, n), Ipv4Addr::new(172, 18, n, 7), Ipv4Addr::new(172, 18, 255, n)];
                let six = Ipv6Addr::new(0xfd00, 0x172, 18, 0, 0, 0, n.into(), 1);
                four.map(IpAddr::from).into_iter().chain([six.into()])
            })
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let groups = 0..=MASK;
        let all: Vec<IpAddr> = own.iter().flat_map(|own| groups.clone().map(|g| at(*own, g))).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), own.len() * usize::from(MASK + 1));
        for (own, of) in own.iter().zip(all.chunks(usize::from(MASK) + 1)) {
            assert!(of.iter().all(|addr| inside(range(*own), *addr)), "{own}: {of:?}");
            assert!(!inside(range(*own), *own) && is_range(range(*own)));
        }
    }

    #[test]
    fn nodes_are_told_apart_by_the_ends_of_their_addresses() {
        let groups: BTreeSet<u8> = (2..34).map(|n| group(Ipv4Addr::new(10, 0, 0, n))).collect();
        assert_eq!(groups.len(), 32);
        assert_eq!(group(Ipv4Addr::new(10, 0, 0, 5)), group(Ipv4Addr::new(10, 0, 1, 37)));
    }
}
