//! Choosing subnets and addresses of local networks.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use skep_types::{Ipv4Net, Ipv6Net};

use super::NetError;

/// The next free subnet of Docker's local pools (`swarm-semantics` 8.1): 172.17–172.31 in /16, then 192.168.0.0/16 in /20.
pub(super) fn free_subnet(used: &[Ipv4Net]) -> Result<Ipv4Net, NetError> {
    let first = (17..=31u8).map(|n| Ipv4Net::new(Ipv4Addr::new(172, n, 0, 0), 16));
    let second = (0..=240u8).step_by(16).map(|n| Ipv4Net::new(Ipv4Addr::new(192, 168, n, 0), 20));
    first.chain(second).find(|net| !used.iter().any(|other| other.overlaps(net))).ok_or(NetError::PoolsFull)
}

/// The wanted address, or the lowest free one of `range`.
pub(super) fn address(
    subnet: Ipv4Net,
    range: Ipv4Net,
    taken: &BTreeSet<Ipv4Addr>,
    wanted: Option<Ipv4Addr>,
) -> Result<Ipv4Addr, NetError> {
    let reserved = |addr| addr == subnet.network().addr || addr == subnet.broadcast();
    if let Some(addr) = wanted {
        return match addr {
            _ if !subnet.contains(addr) || reserved(addr) => Err(NetError::OutsideSubnet(addr.into())),
            _ if taken.contains(&addr) => Err(NetError::AddressTaken),
            _ => Ok(addr),
        };
    }
    let all = (0u32..).map_while(|n| range.nth(n));
    all.into_iter()
        .find(|addr| !reserved(*addr) && !taken.contains(addr))
        .ok_or_else(|| NetError::AddressesFull(subnet.to_string()))
}

/// A subnet of IPv6 of RFC 4193's local range for a network, by its id, which is random.
pub(super) fn unique_local(id: &str) -> Ipv6Net {
    let drawn = id.get(..14).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    Ipv6Net::unique_local(drawn >> 16, (drawn & 0xffff) as u16)
}

/// The wanted address, or the lowest free one.
pub(super) fn address6(subnet: Ipv6Net, taken: &BTreeSet<Ipv6Addr>, wanted: Option<Ipv6Addr>) -> Result<Ipv6Addr, NetError> {
    // The first address of a subnet means each of its routers.
    let reserved = |addr| addr == subnet.network().addr;
    if let Some(addr) = wanted {
        return match addr {
            _ if !subnet.contains(addr) || reserved(addr) => Err(NetError::OutsideSubnet(addr.into())),
            _ if taken.contains(&addr) => Err(NetError::AddressTaken),
            _ => Ok(addr),
        };
    }
    let mut all = (1u128..).map_while(|n| subnet.nth(n));
    all.find(|addr| !taken.contains(addr)).ok_or_else(|| NetError::AddressesFull(subnet.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ipv6_are_the_lowest_free_of_a_range_that_follows_from_the_id() {
        let net = unique_local("0123456789abcdef");
        assert_eq!(net.to_string(), "fd01:2345:6789:abcd::/64");
        let at = |n| net.nth(n).expect("inside");
        let taken = BTreeSet::from([at(1), at(2)]);
        assert_eq!(address6(net, &taken, None).expect("free"), at(3));
        assert!(matches!(address6(net, &taken, Some(at(2))), Err(NetError::AddressTaken)));
        assert!(matches!(address6(net, &taken, Some(at(0))), Err(NetError::OutsideSubnet(_))));
        assert!(matches!(address6(net, &taken, Some(Ipv6Addr::LOCALHOST)), Err(NetError::OutsideSubnet(_))));
        let small: Ipv6Net = "fd00::/127".parse().expect("valid");
        let taken = BTreeSet::from([small.nth(1).expect("inside")]);
        assert!(matches!(address6(small, &taken, None), Err(NetError::AddressesFull(_))));
    }

    #[test]
    fn subnets_avoid_what_is_in_use() {
        let used = ["172.17.0.0/16".parse().expect("valid"), "172.18.5.0/24".parse().expect("valid")];
        assert_eq!(free_subnet(&used).expect("free").to_string(), "172.19.0.0/16");
        assert!(free_subnet(&["0.0.0.0/0".parse().expect("valid")]).is_err());
    }

    #[test]
    fn addresses_are_the_lowest_free() {
        let net: Ipv4Net = "10.0.0.0/30".parse().expect("valid");
        let taken = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 1)]);
        assert_eq!(address(net, net, &taken, None).expect("free"), Ipv4Addr::new(10, 0, 0, 2));
        let taken = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]);
        assert!(matches!(address(net, net, &taken, None), Err(NetError::AddressesFull(_))));
        let taken = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 2)]);
        assert!(matches!(address(net, net, &taken, Some(Ipv4Addr::new(10, 0, 0, 2))), Err(NetError::AddressTaken)));
        assert!(matches!(address(net, net, &taken, Some(Ipv4Addr::new(10, 0, 1, 2))), Err(NetError::OutsideSubnet(_))));
    }
}
